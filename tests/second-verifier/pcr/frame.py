"""The frames of a file (2.2), read one after the other."""

import os
from typing import BinaryIO

from . import chunk, limits
from .encryption import HEADER_BYTES, EncryptedChunk
from .refusal import Refused, require

HEAD, LEAF, TAIL, INDEX, SEAL, SEEK_TABLE = 0x184D2A50, 0x184D2A51, 0x184D2A52, 0x184D2A53, 0x184D2A54, 0x184D2A5E
REDACTION, ENCRYPTED = 0x184D2A55, 0x184D2A5F
CHUNK = chunk.MAGIC
KNOWN = {HEAD, LEAF, TAIL, INDEX, SEAL, REDACTION, SEEK_TABLE, ENCRYPTED, CHUNK}


class TornFile(Refused):
    """The file ends where it may not; in a spool that is how a crash leaves it."""


class Frames:
    def __init__(self, file: BinaryIO):
        self.file = file
        self.size = os.fstat(file.fileno()).st_size
        # Where the frame begins that is read now or was read last, and the place behind what was read.
        self.begin = self.at = 0

    def take(self, length: int) -> bytes:
        data = self.file.read(length) if length <= self.size - self.at else b""
        if len(data) < length:
            raise TornFile("the file ends within a frame")
        self.at += length
        return data

    def peek(self) -> int | None:
        """The magic of the next frame; None at the end of the file."""
        self.begin = self.at
        if self.at == self.size:
            return None
        magic = int.from_bytes(self.take(4), "little")
        self.file.seek(self.begin)
        self.at = self.begin
        return magic

    def chunk(self) -> chunk.Chunk:
        return chunk.read(self.take)

    def encrypted_chunk(self) -> EncryptedChunk:
        return EncryptedChunk(self.skippable(limits.CHUNK_STORED_BYTES_MAX - HEADER_BYTES)[1])

    def skippable(self, most: int) -> tuple[bytes, bytes]:
        """Content and whole frame of a skippable frame with at most that many bytes of content."""
        header = self.take(8)
        length = int.from_bytes(header[4:], "little")
        require(length <= most, "a frame over its bound")
        content = self.take(length)
        return content, header + content


def require_magic(magic: int | None, *wanted: int) -> None:
    """Refuses a frame that is unknown or not wanted here."""
    if magic is None:
        raise TornFile("the file ends too early")
    require(magic in KNOWN, f"unknown frame {magic:#x}")
    require(magic in wanted, "a frame where it may not be")
