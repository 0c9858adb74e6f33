"""A place in bytes from which numbers and pieces are taken; nothing is read beyond the end."""

from .refusal import CutOff, Refused, require


class Cursor:
    def __init__(self, data, at: int = 0):
        self.data = memoryview(data)
        self.at = at

    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, length: int) -> memoryview:
        if length > self.left():
            raise CutOff("malformed: ends too early")
        self.at += length
        return self.data[self.at - length : self.at]

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        """LEB128 of at most 64 bits in its shortest form (1.3)."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                require(byte != 0 or shift == 0, "malformed: varint not in its shortest form")
                require(value < 1 << 64, "malformed: varint over 64 bits")
                return value
        raise Refused("malformed: varint over 64 bits")

    def end(self, reason: str = "malformed: bytes left over") -> None:
        require(self.left() == 0, reason)


def varint_bytes(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
