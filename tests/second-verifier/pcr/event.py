"""Events, and the rows and columns they are kept in (3.3)."""

from typing import Iterator, NamedTuple

from . import limits
from .cursor import Cursor
from .refusal import require

SEALED_ROW = 0x7E
CHECK = 0x7F
LINE_KEY = 0x12
KEYFRAME = 0x30
ACCOUNTS = 0x33
CHANNEL_MAX = (1 << 32) - 1
LAYOUT_ROWS, LAYOUT_COLUMNS = 0, 1


class Event(NamedTuple):
    time_ms: int
    kind: int
    channel: int
    payload: memoryview


def begin(content: bytes) -> tuple[Cursor, int, int]:
    """The cursor behind layout and first time, and these two."""
    cursor = Cursor(content)
    layout = cursor.byte()
    require(layout in (LAYOUT_ROWS, LAYOUT_COLUMNS), "malformed: unknown layout")
    return cursor, layout, later(0, cursor.varint())


def of_content(content: bytes) -> Iterator[Event]:
    """The events of a chunk; their payloads are not looked into yet."""
    cursor, layout, time_ms = begin(content)
    events = rows(cursor, time_ms) if layout == LAYOUT_ROWS else columns(cursor, time_ms)
    first = True
    for event in events:
        require(not first or event.time_ms == time_ms, "malformed: the first event is not at the first time")
        first = False
        yield event


def rows(cursor: Cursor, time_ms: int) -> Iterator[Event]:
    while cursor.left():
        event = row(cursor, time_ms)
        time_ms = event.time_ms
        yield event


def row(cursor: Cursor, time_ms: int) -> Event:
    time_ms = later(time_ms, cursor.varint())
    kind, channel = cursor.byte(), channel_of(cursor)
    most = limits.SEALED_ROW_BYTES_MAX if kind == SEALED_ROW else limits.EVENT_PAYLOAD_BYTES_MAX
    return Event(time_ms, kind, channel, cursor.take(bounded(cursor.varint(), most)))


def columns(cursor: Cursor, time_ms: int) -> Iterator[Event]:
    count = cursor.varint()
    lengths = [cursor.varint() for _ in range(3)]
    times, kinds, channels, sizes = (
        Cursor(cursor.take(length)) for length in (lengths[0], count, lengths[1], lengths[2])
    )
    for _ in range(count):
        delta, channel, size = times.varint(), channel_of(channels), sizes.varint()
        time_ms = later(time_ms, delta)
        yield Event(time_ms, kinds.byte(), channel, cursor.take(bounded(size)))
    for column in (times, channels, sizes, cursor):
        column.end("malformed: columns of different lengths")


def channel_of(cursor: Cursor) -> int:
    channel = cursor.varint()
    require(channel <= CHANNEL_MAX, "malformed: channel over 32 bits")
    return channel


def later(time_ms: int, delta: int) -> int:
    require(time_ms + delta <= limits.TIME_MS_MAX, "malformed: time over its bound")
    return time_ms + delta


def bounded(payload_bytes: int, most: int = limits.EVENT_PAYLOAD_BYTES_MAX) -> int:
    require(payload_bytes <= most, "malformed: payload over its bound")
    return payload_bytes
