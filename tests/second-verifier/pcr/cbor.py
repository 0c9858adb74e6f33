"""Deterministic CBOR (RFC 8949 section 4.2), the part of it that 1.2 allows."""

from . import limits
from .cursor import Cursor
from .refusal import Refused, require

UINT, BYTES, TEXT, ARRAY, MAP, SIMPLE = 0, 2, 3, 4, 5, 7
TRUE, FALSE = 0xF5, 0xF4


class Cbor(Cursor):
    """Takes values of the kind the caller expects; anything else is refused."""

    def _argument(self, major: int) -> int:
        initial = self.byte()
        require(initial >> 5 == major, "malformed: CBOR of another type")
        info = initial & 0x1F
        if info < 24:
            return info
        require(info <= 27, "malformed: CBOR indefinite or reserved length")
        size = 1 << (info - 24)
        value = int.from_bytes(self.take(size), "big")
        least = 24 if size == 1 else 1 << (size * 4)
        require(value >= least, "malformed: CBOR number not in its shortest form")
        return value

    def uint(self, most: int = (1 << 64) - 1, reason: str = "number over its bound") -> int:
        value = self._argument(UINT)
        require(value <= most, "malformed: " + reason)
        return value

    def u32(self) -> int:
        return self.uint((1 << 32) - 1, "number over 32 bits")

    def time(self) -> int:
        return self.uint(limits.TIME_MS_MAX, "time over its bound")

    def bytes(self) -> memoryview:
        return self.take(self._argument(BYTES))

    def fixed(self, length: int) -> bytes:
        value = self.bytes()
        require(len(value) == length, f"malformed: a byte string that is not {length} bytes long")
        return bytes(value)

    def text(self, most: int) -> str:
        length = self._argument(TEXT)
        require(length <= most, "malformed: text over its bound")
        try:
            return bytes(self.take(length)).decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("malformed: text is not UTF-8") from None

    def bool(self) -> bool:
        value = self.byte()
        require(value in (TRUE, FALSE), "malformed: CBOR of another type")
        return value == TRUE

    def array(self, length: int) -> None:
        require(self._argument(ARRAY) == length, "malformed: CBOR array of another length")

    def array_length(self, most: int) -> int:
        length = self._argument(ARRAY)
        require(length <= most, "malformed: CBOR array over its bound")
        return length

    def map_length(self) -> int:
        return self._argument(MAP)

    def key(self, key: int) -> None:
        require(self._argument(UINT) == key, "malformed: CBOR map with another key")


def encode_head(major: int, argument: int) -> bytes:
    """The initial byte and argument, in the one form there is."""
    if argument < 24:
        return bytes([major << 5 | argument])
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << (8 * size):
            return bytes([major << 5 | info]) + argument.to_bytes(size, "big")
    raise ValueError(argument)


def encode(value) -> bytes:
    """Bytes of a map of numbers to numbers, byte strings and texts."""
    if isinstance(value, int):
        return encode_head(UINT, value)
    if isinstance(value, bytes):
        return encode_head(BYTES, len(value)) + value
    if isinstance(value, str):
        return encode_head(TEXT, len(value.encode())) + value.encode()
    return encode_head(MAP, len(value)) + b"".join(encode(key) + encode(value[key]) for key in sorted(value))
