"""Tails: what was not a finished chunk yet (7), and how far the session's keys vouch for it (7.3)."""

from dataclasses import dataclass
from hashlib import sha256

from . import chunk, event, limits, payload, statement
from .cursor import Cursor
from .encryption import require_sealed
from .refusal import CutOff, Refused, require

KIND_FILE, KIND_CHUNK = 0, 1
OPEN_MAGIC = 0x184D2A52


class Unopened(Refused):
    """The opening is not whole yet, or was not when the session crashed."""


@dataclass
class Tail:
    """A tail file as far as its records are whole."""

    opened: statement.TailOpen
    whole: bytes
    last_ms: int
    # Of the last CHECK: bytes up to its end, and its time; none without one.
    checked: tuple[int, int] | None
    # Why it does not go on, or None if that is where the bytes end.
    torn: Refused | None
    # The sealed rows of an encrypted recording.
    sealed: list[event.Event]


def read(data: bytes, index: int, opener: bytes, key: bytes | None, head: statement.Head) -> Tail:
    """Reads tail `index`, which `opener` must have signed, and which must go on with `key` if that is known."""
    require(len(data) <= limits.TAIL_BYTES_MAX, "a tail over its bound")
    cursor = Cursor(data)
    opened = statement.tail_open(opening(cursor))
    require(opened.signed.signed_by(opener, "tail"), "the tail is not opened by the key before it")
    require(opened.index == index, f"the tail has index {opened.index}, not {index}")
    require(key is None or opened.key == key, "the tail goes on with another key")
    require(index == 0 or opened.key != opener, "the tail goes on with the key that opened it")
    tail = Tail(opened, b"", opened.from_ms, None, None, [])
    checks, whole = 0, cursor.at
    hashed = sha256(data[:whole])
    try:
        while cursor.left():
            read_event = event.row(cursor, tail.last_ms)
            if read_event.kind == event.CHECK:
                require_check(read_event, opened.key, checks, whole, hashed.digest())
                checks += 1
                tail.checked = (cursor.at, read_event.time_ms)
            elif head.envelope is not None:
                require_sealed(read_event)
                tail.sealed.append(read_event)
            else:
                payload.require_sound(read_event, head.version)
            tail.last_ms = read_event.time_ms
            hashed.update(data[whole : cursor.at])
            whole = cursor.at
    except Refused as refused:
        tail.torn = refused
    tail.whole = data[:whole]
    return tail


def opening(cursor: Cursor) -> bytes:
    """The content of the frame a tail file begins with (7.1)."""
    try:
        magic = int.from_bytes(cursor.take(4), "little")
        require(magic == OPEN_MAGIC, "a tail that does not begin with its opening")
        length = int.from_bytes(cursor.take(4), "little")
        require(length <= limits.STATEMENT_BYTES_MAX, "a frame over its bound")
        return bytes(cursor.take(length))
    except CutOff:
        raise Unopened("the tail's opening is cut off") from None


def require_check(row: event.Event, key: bytes, number: int, bytes_before: int, hash_before: bytes) -> None:
    require(row.channel == 0, "a check on a channel")
    require(len(row.payload) <= limits.STATEMENT_BYTES_MAX, "a check over its bound")
    check = statement.check(bytes(row.payload))
    require(check.signed.signed_by(key, "check"), "a check that is not signed by the key of its epoch")
    require(check.number == number, "a check with another number")
    require(check.time_ms == row.time_ms, "a check of another time")
    require(check.bytes_before == bytes_before, "a check of another length")
    require(check.hash_before == hash_before, "a check of other bytes")


@dataclass
class TornChunk:
    """As much of a stored chunk without a leaf as is whole blocks of sound events (3.5)."""

    first_ms: int
    last_ms: int
    stored_bytes: int


def torn_chunk(data: bytes, version: int) -> TornChunk:
    require(data.startswith(chunk.STORED_HEADER), "a torn chunk that is not a stored one")
    blocks = list(chunk.raw_blocks(data[: limits.CHUNK_STORED_BYTES_MAX]))
    _, _, sound = torn_events(b"".join(blocks), version)
    kept, content = len(chunk.STORED_HEADER), b""
    for block in blocks:
        if len(content) + len(block) > sound:
            break
        content += block
        kept += chunk.BLOCK_HEADER_BYTES + len(block)
    first_ms, last_ms, _ = torn_events(content, version)
    return TornChunk(first_ms, last_ms, kept)


def torn_events(content: bytes, version: int) -> tuple[int, int, int]:
    """First time, that of the last whole event, and how much of the content is not refused."""
    cursor, layout, first_ms = event.begin(content)
    require(layout == event.LAYOUT_ROWS, "a torn chunk in another layout than rows")
    last_ms, begun = first_ms, False
    while cursor.left():
        begin = cursor.at
        try:
            read_event = event.row(cursor, last_ms)
            require(begun or read_event.time_ms == first_ms, "malformed: the first event is not at the first time")
            payload.require_sound(read_event, version)
        except CutOff:
            # Blocks end where they end: the last event may go on in one that was never written.
            break
        except Refused:
            return first_ms, last_ms, begin
        last_ms, begun = read_event.time_ms, True
    return first_ms, last_ms, len(content)


class Vouching:
    """How far the session's keys vouch: it ends at the first place where something is unsigned or missing (7.3)."""

    def __init__(self, chunks_end_ms: int):
        self.tail_bytes = 0
        self.until_ms = chunks_end_ms
        self.broken = False
        self.last: Tail | None = None

    def push(self, tail: Tail) -> None:
        # The first tail names bytes that are a chunk by now; later ones vouch for the tail before them.
        if self.last is not None and not self.broken:
            if tail.opened.before == sha256(self.last.whole).digest():
                self.tail_bytes += len(self.last.whole)
                self.until_ms = self.last.last_ms
            else:
                self.end()
        self.last = tail

    def end(self) -> None:
        """Only the CHECKs vouch for the tail nobody follows."""
        if not self.broken and self.last is not None and self.last.checked is not None:
            checked_bytes, time_ms = self.last.checked
            self.tail_bytes += checked_bytes
            self.until_ms = time_ms
        self.broken = True
