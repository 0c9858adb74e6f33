"""Whom to trust (9.4): node keys with their times, ledger keys, witness keys and a quorum."""

import re
import tomllib
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from . import limits, signature
from .refusal import Refused, Untrusted, require

# The part of TOML that 9.4 allows.
LINE = re.compile(r'|#.*|\[\[(node|redactor|ledger|witness)\]\]|\w+ *= *([0-9]+|"[^"\\]*")')

TYPE_ED25519, TYPE_COSIGNATURE = 0x01, 0x04


def base64(text: str, length: int | None = None) -> bytes:
    """Standard base64 (RFC 4648 section 4) in its one form."""
    try:
        value = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise Refused("malformed: base64") from None
    require(length is None or len(value) == length, f"malformed: base64 of another length than {length} bytes")
    # Other bits in the last character would give the same bytes.
    require(b64encode(value).decode() == text, "malformed: base64")
    return value


@dataclass(frozen=True)
class NoteKey:
    """A verifier key of a C2SP signed note."""

    name: str
    id: bytes
    key: bytes

    def verifies(self, message: bytes, signed: bytes) -> bool:
        return signature.verifies(self.key, message, signed)


def note_key(text: str, signature_type: int) -> NoteKey:
    """Reads `name+id+base64(type || key)`; the base64 may have a plus of its own."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    material = base64(encoded, 33)
    require(material[0] == signature_type, "a key of another signature type")
    digest = sha256(name.encode() + b"\n" + material).digest()[:4]
    require(name != "" and key_id == digest.hex(), "a key whose id is not its hash")
    return NoteKey(name, digest, material[1:])


@dataclass(frozen=True)
class Node:
    name: str
    key: bytes
    from_ms: int
    until_ms: int | None
    revoked_ms: int | None


@dataclass(frozen=True)
class Trust:
    nodes: list[Node]
    redactors: list[Node]
    ledgers: dict[str, list[NoteKey]]
    witnesses: list[NoteKey]
    quorum: int

    def knows(self, key: bytes) -> bool:
        return any(node.key == key for node in self.nodes)

    def require_node(self, key: bytes, wall_ms: int) -> None:
        if not self.knows(key):
            raise Untrusted("the node key is not trusted")
        valid = any(
            node.key == key and node.from_ms <= wall_ms and (node.until_ms is None or wall_ms < node.until_ms)
            for node in self.nodes
        )
        require(valid, "the node key was not valid then")

    def redactor(self, key: bytes, wall_ms: int) -> str:
        """The name of the redactor whose key holds then."""
        known = [redactor for redactor in self.redactors if redactor.key == key]
        if not known:
            raise Untrusted("the redactor's key is not trusted")
        require(all(redactor.revoked_ms is None for redactor in known), "the redactor's key is revoked")
        for redactor in known:
            if redactor.from_ms <= wall_ms and (redactor.until_ms is None or wall_ms < redactor.until_ms):
                return redactor.name
        raise Refused("the redactor's key was not valid then")

    def revoked_ms(self, key: bytes) -> int | None:
        """When this key was revoked, by whichever entry says so first."""
        times = [node.revoked_ms for node in self.nodes if node.key == key and node.revoked_ms is not None]
        return min(times, default=None)


def read(path: Path) -> Trust:
    with path.open("rb") as file:
        data = file.read(limits.TRUST_BYTES_MAX + 1)
    require(len(data) <= limits.TRUST_BYTES_MAX, "the trust file is over its bound")
    try:
        text = data.decode("utf-8")
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"the trust file is not TOML: {error}") from None
    for line in text.splitlines():
        require(LINE.fullmatch(line.strip()) is not None, f"the trust file has more than 9.4 allows: {line}")
    # A word that is misspelt must not take a revocation away.
    fields(table, {}, {"quorum": int, "node": list, "redactor": list, "ledger": list, "witness": list})
    nodes = [signer(entry) for entry in table.get("node", [])]
    redactors = [signer(entry) for entry in table.get("redactor", [])]
    ledgers: dict[str, list[NoteKey]] = {}
    for entry in table.get("ledger", []):
        fields(entry, {"origin": str, "key": str}, {})
        ledgers.setdefault(entry["origin"], []).append(note_key(entry["key"], TYPE_ED25519))
    witnesses = []
    for entry in table.get("witness", []):
        fields(entry, {"key": str}, {})
        witnesses.append(note_key(entry["key"], TYPE_COSIGNATURE))
    return Trust(nodes, redactors, ledgers, witnesses, table.get("quorum", 0))


def signer(entry) -> Node:
    """A node, or a redactor: they have the same words."""
    fields(entry, {"name": str, "key": str, "from": int}, {"until": int, "revoked": int})
    return Node(entry["name"], base64(entry["key"], 32), entry["from"], entry.get("until"), entry.get("revoked"))


def fields(table, needed: dict[str, type], may: dict[str, type]) -> None:
    require(isinstance(table, dict), "the trust file has something else where a table should be")
    for name in needed:
        require(name in table, f"the trust file lacks `{name}`")
    for name, value in table.items():
        kind = needed.get(name) or may.get(name)
        require(kind is not None, f"the trust file has an unknown word: `{name}`")
        # In Python a truth value is a number, too.
        sound = type(value) is kind and not (kind is int and value < 0)
        require(sound, f"the trust file has something else than {kind.__name__} for `{name}`")
