"""The proof that a seal is in a ledger: C2SP tlog-proof@v1 around a cosigned checkpoint (9.1 to 9.3)."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from . import cbor, limits, tree
from .refusal import require
from .statement import Head, Seal
from .trust import NoteKey, Trust, base64

COSIGNATURE_BYTES = 8 + 64


def seal_entry(head: Head, head_hash: bytes, seal: Seal, file_bytes: int) -> bytes:
    """The ledger's entry for a seal (9.1)."""
    body = {
        0: "seal",
        1: head.session,
        2: head_hash,
        3: seal.root,
        4: file_bytes,
        5: seal.reason,
        6: head.opening_ms + seal.close_ms,
    }
    return sha256(b"portcullis-ledger/v1 entry\0" + head.salt + cbor.encode(body)).digest()


@dataclass(frozen=True)
class Signature:
    name: str
    key_id: bytes
    signed: bytes


@dataclass(frozen=True)
class Checkpoint:
    """A signed note whose text is a tree head."""

    text: bytes
    origin: str
    size: int
    root: bytes
    signatures: list[Signature]

    def by(self, key: NoteKey) -> list[Signature]:
        return [line for line in self.signatures if (line.name, line.key_id) == (key.name, key.id)]


@dataclass(frozen=True)
class Proof:
    index: int
    path: list[bytes]
    checkpoint: Checkpoint

    def require_valid(self, entry: bytes, origin: str, trust: Trust) -> dict[bytes, list[int]]:
        """The times (seconds since 1970) at which each witness cosigned, once all the rest holds."""
        checkpoint = self.checkpoint
        require(
            checkpoint.origin == origin and origin in trust.ledgers,
            "the ledger is not trusted for this recording",
        )
        by_log = [(key, line) for key in trust.ledgers[origin] for line in checkpoint.by(key)]
        require(bool(by_log), "the ledger has not signed the checkpoint")
        for key, line in by_log:
            require(key.verifies(checkpoint.text, line.signed), "the ledger's signature does not verify")
        root = None
        if self.index < checkpoint.size:
            root = tree.root_by_path(self.index, checkpoint.size, tree.leaf_hash(entry), self.path)
        require(root == checkpoint.root, "the seal is not in the ledger's tree")
        cosigned: dict[bytes, list[int]] = {}
        for key in trust.witnesses:
            for line in checkpoint.by(key):
                cosigned.setdefault(key.key, []).append(cosigned_at(checkpoint, key, line))
        return cosigned


def cosigned_at(checkpoint: Checkpoint, witness: NoteKey, line: Signature) -> int:
    require(len(line.signed) == COSIGNATURE_BYTES, "a cosignature of another length")
    time_s = int.from_bytes(line.signed[:8], "big")
    require(time_s < 1 << 63, "a cosignature from beyond all time")
    message = f"cosignature/v1\ntime {time_s}\n".encode() + checkpoint.text
    require(witness.verifies(message, line.signed[8:]), "a witness's signature does not verify")
    return time_s


def read(path: Path) -> Proof:
    with path.open("rb") as file:
        data = file.read(limits.NOTE_BYTES_MAX + 1)
    require(len(data) <= limits.NOTE_BYTES_MAX, "the proof is over its bound")
    header, blank, note = data.partition(b"\n\n")
    require(blank != b"" and header.isascii(), "malformed: the proof has no checkpoint")
    lines = header.decode().split("\n")
    require(lines.pop(0) == "c2sp.org/tlog-proof@v1", "malformed: not a proof")
    if lines and lines[0].startswith("extra "):
        base64(lines.pop(0).removeprefix("extra "))
    require(bool(lines) and lines[0].startswith("index "), "malformed: the proof has no index")
    index = decimal(lines.pop(0).removeprefix("index "))
    require(len(lines) <= limits.PROOF_HASHES_MAX, "the proof is longer than any can be")
    return Proof(index, [base64(line, 32) for line in lines], checkpoint_of(note))


def checkpoint_of(note: bytes) -> Checkpoint:
    """Reads a C2SP tlog-checkpoint; its signatures are not verified yet."""
    try:
        whole = note.decode("utf-8")
    except UnicodeDecodeError:
        whole = "\0"
    require(all(char >= " " or char == "\n" for char in whole), "malformed: a note that is not text")
    text, blank, signatures = whole.rpartition("\n\n")
    require(blank != "" and signatures.endswith("\n"), "malformed: a note without signatures")
    lines = signatures.removesuffix("\n").split("\n")
    require(len(lines) <= limits.NOTE_SIGNATURES_MAX, "a note with more signatures than may be")
    fields = text.split("\n")
    require(len(fields) >= 3 and "" not in fields, "malformed: a checkpoint without its three lines")
    return Checkpoint(
        text=(text + "\n").encode(),
        origin=fields[0],
        size=decimal(fields[1]),
        root=base64(fields[2], 32),
        signatures=[signature_of(line) for line in lines],
    )


def signature_of(line: str) -> Signature:
    parts = line.split(" ")
    require(len(parts) == 3 and parts[0] == "\u2014", "malformed: a signature line")
    name, signed = parts[1], base64(parts[2])
    sound = name != "" and "+" not in name and not any(char.isspace() for char in name)
    require(sound and len(signed) > 4, "malformed: a signature line")
    return Signature(name, signed[:4], signed[4:])


def decimal(text: str) -> int:
    sound = text.isascii() and text.isdigit() and len(text) <= 20 and (text == "0" or text[0] != "0")
    require(sound, "malformed: number in a proof")
    return int(text)
