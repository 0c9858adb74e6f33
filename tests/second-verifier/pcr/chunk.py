"""A chunk: one zstd frame (3.2), looked through before anything is decompressed."""

from dataclasses import dataclass

import zstandard

from . import limits
from .refusal import Refused, require

MAGIC = 0xFD2FB528
STORED_HEADER = bytes.fromhex("28b52ffd0038")
BLOCK_HEADER_BYTES = 3
RAW, RLE, COMPRESSED, RESERVED = range(4)


@dataclass
class Chunk:
    frame: bytes
    stored: bool
    raw_bytes: int

    def content(self) -> bytes:
        """The content; as long as `raw_bytes`, or refused."""
        if self.stored:
            return b"".join(raw_blocks(self.frame))
        try:
            # The header states the content's size, which is all that is ever allocated.
            decompressor = zstandard.ZstdDecompressor(max_window_size=limits.WINDOW_BYTES_MAX)
            content = decompressor.decompress(self.frame, max_output_size=self.raw_bytes, allow_extra_data=False)
        except zstandard.ZstdError:
            raise Refused("the chunk does not decompress") from None
        require(len(content) == self.raw_bytes, "it does not decompress to its length")
        return content


def raw_blocks(data: bytes):
    """The whole blocks of a stored chunk, up to the first that is none or may not be in one."""
    at, last, content_bytes = len(STORED_HEADER), False, 0
    while not last and at + BLOCK_HEADER_BYTES <= len(data):
        block = int.from_bytes(data[at : at + BLOCK_HEADER_BYTES], "little")
        last, kind, size = block & 1 == 1, block >> 1 & 3, block >> 3
        at += BLOCK_HEADER_BYTES + size
        content_bytes += size
        sound = kind == RAW and size <= limits.BLOCK_BYTES_MAX and last == (size == 0)
        if not sound or at > len(data) or content_bytes > limits.CHUNK_RAW_BYTES_MAX:
            return
        yield data[at - size : at]


def read(take) -> Chunk:
    """Reads one frame by `take(length)`, which gives that many bytes or refuses."""
    frame = bytearray()

    def piece(length: int) -> bytes:
        require(len(frame) + length <= limits.CHUNK_STORED_BYTES_MAX, "a frame over its bound")
        got = take(length)
        frame.extend(got)
        return got

    piece(4)
    content_bytes = header(piece)
    stored = content_bytes is None
    plain, last = 0, False
    while not last:
        block = int.from_bytes(piece(BLOCK_HEADER_BYTES), "little")
        last, kind, size = block & 1 == 1, block >> 1 & 3, block >> 3
        require(kind != RESERVED, refused("reserved block type"))
        require(size <= limits.BLOCK_BYTES_MAX, refused("block over its bound"))
        require(not stored or kind == RAW, refused("a stored chunk with a block that is not raw"))
        require(not stored or last == (size == 0), refused("an empty block is the last of a stored chunk, and only that"))
        if kind != COMPRESSED:
            plain += size
            most = limits.CHUNK_RAW_BYTES_MAX if stored else content_bytes
            require(plain <= most, refused("it expands over its bound"))
        piece(1 if kind == RLE else size)
    return Chunk(bytes(frame), stored, plain if stored else content_bytes)


def header(piece) -> int | None:
    """The content size that the frame's header states (RFC 8878 section 3.1.1.1); None if stored."""
    descriptor = piece(1)[0]
    single_segment = descriptor >> 5 & 1 == 1
    require(descriptor & 0b11 == 0, refused("dictionary"))
    require(descriptor & 0b100 == 0, refused("checksum"))
    require(descriptor & 0b11000 == 0, refused("reserved or unused bit"))
    require(descriptor >> 6 != 3, refused("64-bit content size"))
    window = None if single_segment else piece(1)[0]
    if window is not None:
        base = 1 << (10 + (window >> 3))
        require(base + base // 8 * (window & 7) <= limits.WINDOW_BYTES_MAX, refused("window over its bound"))
    if descriptor == STORED_HEADER[4]:
        require(window == STORED_HEADER[5], refused("no content size"))
        return None
    size_bytes = (1, 2, 4)[descriptor >> 6]
    size = int.from_bytes(piece(size_bytes), "little") + (256 if size_bytes == 2 else 0)
    require(size <= limits.CHUNK_RAW_BYTES_MAX, refused("content size over its bound"))
    return size


def refused(what: str) -> str:
    return "zstd frame refused: " + what
