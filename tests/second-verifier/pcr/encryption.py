"""The content key of an encrypted recording and what it opens (section 10)."""

from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from . import chunk, event, limits
from .cursor import Cursor
from .refusal import Refused, require

KEY_BYTES, TAG_BYTES = 32, 16
HEADER_BYTES = 8
# Kind, channel and tag.
ROW_BYTES_MIN = 1 + 1 + TAG_BYTES


@dataclass(frozen=True)
class Opened:
    """What a reader has who may read: the envelope, and what `age -d` makes of it."""

    envelope: bytes
    content_key: bytes

    def __post_init__(self):
        require(len(self.envelope) <= limits.ENVELOPE_BYTES_MAX, "the envelope is over its bound")
        require(len(self.content_key) == KEY_BYTES, "a content key has 32 bytes")

    def belongs_to(self, envelope_hash: bytes) -> bool:
        return sha256(self.envelope).digest() == envelope_hash


@dataclass
class EncryptedChunk:
    """The frame 5F as it is in the file. Nothing in it is known without the key."""

    frame: bytes
    raw_bytes = 0


class Keys:
    """The ratchet (10.2): asked for the keys of chunks and tails in their order."""

    def __init__(self, content_key: bytes, head_hash: bytes):
        self.head_hash = head_hash
        self.index, self.key = 0, content_key

    def open_chunk(self, index: int, sealed: EncryptedChunk, raw_bytes: int) -> chunk.Chunk:
        frame = self._open("chunk", index, 0, sealed.frame[HEADER_BYTES:])
        cursor = Cursor(frame)
        opened = chunk.read(lambda length: bytes(cursor.take(length)))
        cursor.end(chunk.refused("bytes after the frame"))
        sound = not opened.stored and opened.raw_bytes == raw_bytes
        require(sound, chunk.refused("the content is not as long as its leaf says"))
        return opened

    def open_row(self, index: int, number: int, row: event.Event) -> event.Event:
        cursor = Cursor(self._open("tail", index, number, bytes(row.payload)))
        kind, channel = cursor.byte(), event.channel_of(cursor)
        require(kind != event.CHECK, "malformed: a check in a sealed row")
        return event.Event(row.time_ms, kind, channel, cursor.take(event.bounded(cursor.left())))

    def _open(self, purpose: str, index: int, number: int, sealed: bytes) -> bytes:
        while self.index < index:
            self.key = expand(self.key, "next")
            self.index += 1
        cipher = ChaCha20Poly1305(expand(self.key, purpose))
        place = self.head_hash + index.to_bytes(8, "big")
        try:
            return cipher.decrypt(bytes(4) + number.to_bytes(8, "big"), sealed, place)
        except InvalidTag:
            raise Refused("the content key does not open it") from None


def expand(key: bytes, purpose: str) -> bytes:
    return HKDFExpand(SHA256(), KEY_BYTES, b"portcullis-recording/v2 " + purpose.encode()).derive(key)


def require_sealed(row: event.Event) -> None:
    """Refuses what nobody without the key can tell to be an event (10.3)."""
    sealed = row.kind == event.SEALED_ROW and row.channel == 0 and len(row.payload) >= ROW_BYTES_MIN
    require(sealed, "a row in clear in an encrypted tail")
