"""The REDACTION of a copy, and the chunks that it lists (3.8)."""

from dataclasses import dataclass
from hashlib import sha256

from . import limits, payload, statement
from .chunk import Chunk
from .event import Event
from .refusal import require

VERSION = 1
ITEMS = 7
FLAGS = statement.FLAG_KEYFRAME | statement.FLAG_LINE_KEYS
MARK = "redacted: "
MARKER = 0x32


@dataclass(frozen=True)
class Replaced:
    index: int
    chunk_hash: bytes
    raw_bytes: int
    stored_bytes: int
    events: int
    flags: int
    marks: int

    def require_frame(self, chunk: Chunk, leaf: statement.Leaf) -> None:
        digest = sha256(chunk.frame).digest()
        require(not chunk.stored, "a replaced chunk is stored")
        sizes = (chunk.raw_bytes, len(chunk.frame))
        require((digest, *sizes) == (self.chunk_hash, self.raw_bytes, self.stored_bytes), "not the chunk that is listed")
        require(digest != leaf.chunk_hash, "the redaction lists a chunk that was not replaced")

    def stands_for(self, leaf: statement.Leaf) -> statement.Leaf:
        """The leaf as if it were about this chunk: the times are those of the original."""
        return statement.Leaf(
            leaf.signed, leaf.index, leaf.first_ms, leaf.last_ms, self.raw_bytes, self.stored_bytes, self.events,
            self.flags, self.chunk_hash, leaf.before, leaf.next_key,
        )


class Redaction:
    def __init__(self, content: bytes, head_hash: bytes):
        signed = statement.Signed(content)
        require(signed.field().uint() == VERSION, "malformed: redaction of an unknown version")
        require(signed.hash() == head_hash, "the redaction is of another session")
        self.seal_hash = signed.hash()
        self.key = signed.key()
        self.name = signed.text()
        self.wall_ms = signed.field().time()
        self.reason = signed.text()
        self.replaced = replaced_of(signed.field())
        signed.end()
        require(signed.signed_by(self.key, "redaction"), "the redaction's signature does not verify")

    def require_end(self, seal_frame: bytes, chunks: int) -> None:
        require(sha256(seal_frame).digest() == self.seal_hash, "the redaction is of another seal")
        require(max(self.replaced) < chunks, "the redaction replaces a chunk that is not there")


def replaced_of(cbor) -> dict[int, Replaced]:
    """The list of field 7, by index."""
    listed: dict[int, Replaced] = {}
    for _ in range(cbor.array_length(limits.CHUNKS_MAX)):
        require(cbor.array_length(ITEMS) == ITEMS, "malformed: a replaced chunk of another length")
        one = Replaced(cbor.uint(), cbor.fixed(statement.HASH_BYTES), *(cbor.uint() for _ in range(5)))
        require(one.index > max(listed, default=-1), "malformed: replaced chunks not in order")
        require(one.index < limits.CHUNKS_MAX, "malformed: more chunks than may be")
        require(one.raw_bytes <= limits.CHUNK_RAW_BYTES_MAX, "malformed: a chunk over its bound")
        require(one.stored_bytes <= limits.CHUNK_STORED_BYTES_MAX, "malformed: a chunk over its bound")
        require(0 < one.marks <= one.events <= one.raw_bytes, "malformed: impossible number of events")
        require(one.flags & ~FLAGS == 0, "malformed: unknown flags")
        listed[one.index] = one
    require(len(listed) > 0, "malformed: a redaction that replaces nothing")
    return listed


def is_mark(event: Event) -> bool:
    return event.kind == MARKER and payload.marker_text(event).startswith(MARK)
