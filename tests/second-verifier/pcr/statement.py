"""The signed statements: HEAD, LEAF, TAIL-OPEN, CHECK and SEAL."""

from dataclasses import dataclass

from . import limits, signature
from .cbor import Cbor
from .refusal import require

SESSION_BYTES = 16
HASH_BYTES = 32
KEY_BYTES = 32
ENCRYPTED_HEAD_FIELDS = 22

FLAG_KEYFRAME, FLAG_STORED, FLAG_LINE_KEYS = 1, 2, 4
SEALED, RECOVERED = 0, 1


class Signed:
    """The content of a frame: a map with the fields 0, 1, 2 …, and the signature behind it (1.4)."""

    def __init__(self, content: bytes):
        self.cbor = Cbor(content)
        self.content = content
        self.fields = self.cbor.map_length()
        self.next = 0

    def field(self) -> Cbor:
        self.cbor.key(self.next)
        self.next += 1
        return self.cbor

    def text(self) -> str:
        return self.field().text(limits.HEAD_TEXT_BYTES_MAX)

    def hash(self) -> bytes:
        return self.field().fixed(HASH_BYTES)

    def key(self) -> bytes:
        return self.field().fixed(KEY_BYTES)

    def end(self) -> None:
        require(self.fields == self.next, "malformed: CBOR map of another length")
        self.statement = bytes(self.content[: self.cbor.at])
        self.signature = bytes(self.content[self.cbor.at :])
        require(len(self.signature) == signature.BYTES, "malformed: a statement without its signature")

    def signed_by(self, key: bytes, domain: str) -> bool:
        return signature.signed_in(domain, key, self.statement, self.signature)


@dataclass
class Head:
    signed: Signed
    version: int
    session: bytes
    node: str
    opening_ms: int
    key: bytes
    origin: str
    salt: bytes
    node_key: bytes
    # SHA-256 of the envelope if the recording is encrypted.
    envelope: bytes | None


def head(content: bytes) -> Head:
    signed = Signed(content)
    version = signed.field().uint()
    require(version in (1, 2, 3), "malformed: head version is none of 1, 2 and 3")
    session = signed.field().fixed(SESSION_BYTES)
    node = signed.text()
    opening_ms = signed.field().time()
    _target, _login, _identity, _grant = (signed.text() for _ in range(4))
    _grant_ends_ms = signed.field().time()
    _certificate, _serial, _key_id = signed.hash(), signed.field().uint(), signed.text()
    _client, _policy, _client_identification = signed.text(), signed.hash(), signed.text()
    require(signed.text() in ("direct", "jump"), "malformed: head form is neither direct nor jump")
    require(signed.text() in ("ssh", "local"), "malformed: head transport is neither ssh nor local")
    key = signed.key()
    origin = signed.text()
    salt = signed.field().fixed(32)
    node_key = signed.key()
    # Versions 1 and 2 say whether it is there; version 3 leaves it to the length of the map.
    encrypted = signed.fields == ENCRYPTED_HEAD_FIELDS if version == 3 else version == 2
    envelope = signed.hash() if encrypted else None
    signed.end()
    return Head(signed, version, session, node, opening_ms, key, origin, salt, node_key, envelope)


@dataclass
class Leaf:
    signed: Signed
    index: int
    first_ms: int
    last_ms: int
    raw_bytes: int
    stored_bytes: int
    events: int
    flags: int
    chunk_hash: bytes
    before: bytes
    next_key: bytes


def leaf(content: bytes) -> Leaf:
    signed = Signed(content)
    index = signed.field().uint()
    first_ms, last_ms = signed.field().time(), signed.field().time()
    raw_bytes, stored_bytes, events = (signed.field().uint() for _ in range(3))
    require(0 < events <= raw_bytes, "malformed: impossible number of events")
    flags = signed.field().uint()
    require(flags <= FLAG_KEYFRAME | FLAG_STORED | FLAG_LINE_KEYS, "malformed: unknown flags")
    chunk_hash, before, next_key = signed.hash(), signed.hash(), signed.key()
    signed.end()
    return Leaf(
        signed, index, first_ms, last_ms, raw_bytes, stored_bytes, events, flags, chunk_hash, before, next_key
    )


@dataclass
class TailOpen:
    signed: Signed
    index: int
    key: bytes
    before: bytes
    from_ms: int


def tail_open(content: bytes) -> TailOpen:
    signed = Signed(content)
    opened = TailOpen(signed, signed.field().uint(), signed.key(), signed.hash(), signed.field().time())
    signed.end()
    return opened


@dataclass
class Check:
    signed: Signed
    number: int
    time_ms: int
    bytes_before: int
    hash_before: bytes


def check(content: bytes) -> Check:
    signed = Signed(content)
    stated = Check(signed, signed.field().uint(), signed.field().time(), signed.field().uint(), signed.hash())
    signed.end()
    return stated


@dataclass
class Recovery:
    """What only the seal of a recovered file states."""

    chunks: int
    tail_bytes: int
    until_ms: int
    tails_hash: bytes
    node_key: bytes


@dataclass
class Seal:
    signed: Signed
    head_hash: bytes
    chunks: int
    raw_bytes: int
    events: int
    root: bytes
    close_ms: int
    reason: str
    index_hash: bytes
    accounts: bytes
    recovery: Recovery | None


def seal(content: bytes) -> Seal:
    signed = Signed(content)
    kind = signed.field().uint(RECOVERED, "unknown kind of seal")
    head_hash = signed.hash()
    chunks, raw_bytes, events = (signed.field().uint() for _ in range(3))
    root = signed.hash()
    close_ms = signed.field().time()
    reason, _in_words = signed.text(), signed.text()
    index_hash, accounts = signed.hash(), signed.hash()
    recovery = None
    if kind == RECOVERED:
        vouched, tail_bytes, until_ms = signed.field().uint(), signed.field().uint(), signed.field().time()
        recovery = Recovery(vouched, tail_bytes, until_ms, signed.hash(), signed.key())
    signed.end()
    return Seal(signed, head_hash, chunks, raw_bytes, events, root, close_ms, reason, index_hash, accounts, recovery)
