"""What is to be said of a file, or of a spool (8.1)."""

from dataclasses import dataclass
from pathlib import Path

from . import proof, spool
from .encryption import Opened
from .frame import Frames
from .recording import Recording
from .refusal import ContentRefused, Refused
from .trust import Trust

IN_THE_LEDGER, RECOVERED, PREFIX, NOT_IN_THE_LEDGER, REDACTED, INVALID = 0, 10, 11, 12, 13, 5
NOT_VERIFIED = NOT_IN_THE_LEDGER


@dataclass(frozen=True)
class Verdict:
    code: int
    line: str


# The head, at the very beginning, is what nothing proves any more.
REVOKED = Verdict(INVALID, "INVALID at byte 0: the node key is revoked and no cosigned proof is older than that")


UNVERIFIED = Verdict(NOT_VERIFIED, "UNVERIFIED: a node or redactor key is not trusted, so nobody vouches for it")


@dataclass(frozen=True)
class Ledger:
    """What the ledger says of a seal."""

    contains: bool
    words: str
    # When each witness cosigned, in seconds since 1970.
    cosigned: dict[bytes, list[int]]


NO_LEDGER = Ledger(False, "no proof: nothing is known about the ledger", {})


def of(path: Path, trust: Trust, proof_path: Path | None, opened: Opened | None = None) -> Verdict:
    if path.is_dir():
        return of_spool(path, trust, opened)
    with path.open("rb") as file:
        recording = Recording(Frames(file), trust, opened)
        try:
            recording.read()
        except Refused as refused:
            return invalid(recording, refused)
    return of_finished(recording, trust, proof_path)


def of_finished(recording: Recording, trust: Trust, proof_path: Path | None) -> Verdict:
    ledger = ledger_of(recording, trust, proof_path)
    doubt = doubt_of(recording, trust, ledger)
    if doubt is not None:
        return doubt
    recovery = recording.seal.recovery
    if recording.redaction is not None:
        original = "" if recovery is None else f", the original RECOVERED up to {seconds(recovery.until_ms)}"
        line = f"REDACTED by {recording.redactor}, {chunks(list(recording.redaction.replaced))}{original}"
        return Verdict(REDACTED, f"{line}, {ledger.words}")
    if recovery is not None:
        return Verdict(RECOVERED, f"RECOVERED up to {seconds(recovery.until_ms)}{lock(recording)}, {ledger.words}")
    return Verdict(IN_THE_LEDGER if ledger.contains else NOT_IN_THE_LEDGER, f"SEALED{lock(recording)}, {ledger.words}")


def of_spool(folder: Path, trust: Trust, opened: Opened | None) -> Verdict:
    with (folder / "main.pcr").open("rb") as file:
        recording = Recording(Frames(file), trust, opened)
        try:
            until_ms = spool.read(recording, folder)
        except Refused as refused:
            return invalid(recording, refused)
    if until_ms is None:
        return of_finished(recording, trust, None)
    doubt = doubt_of(recording, trust, NO_LEDGER)
    if doubt is not None:
        return doubt
    return Verdict(PREFIX, f"PREFIX up to {seconds(until_ms)}{lock(recording)}")


def ledger_of(recording: Recording, trust: Trust, path: Path | None) -> Ledger:
    if path is None:
        return NO_LEDGER
    session = recording.session
    entry = proof.seal_entry(session.head, session.head_hash, recording.seal, recording.original_bytes())
    try:
        read = proof.read(path)
        cosigned = read.require_valid(entry, session.head.origin, trust)
    except Refused as refused:
        return Ledger(False, f"not in the ledger: {refused}", {})
    if len(cosigned) < trust.quorum:
        return Ledger(False, f"not in the ledger: {len(cosigned)} of {trust.quorum} witnesses have cosigned", {})
    return Ledger(True, f"in the ledger at {read.index} of {read.checkpoint.size}", cosigned)


def doubt_of(recording: Recording, trust: Trust, ledger: Ledger) -> Verdict | None:
    """What is to be said if a node key is not trusted, or revoked and not proved to be used before that (9.4)."""
    for key, signed_ms in recording.node_keys():
        if not trust.knows(key):
            return UNVERIFIED
        revoked_ms = trust.revoked_ms(key)
        if revoked_ms is None:
            continue
        before = [times for times in ledger.cosigned.values() if min(times) * 1000 < revoked_ms]
        if signed_ms >= revoked_ms or len(before) < max(1, trust.quorum):
            return REVOKED
    # Of a redactor, by now.
    return UNVERIFIED if recording.session.untrusted else None


def lock(recording: Recording) -> str:
    """What is to be said of content that was not read."""
    if not recording.session.locked:
        return ""
    return ", locked" if recording.opened is None else ", locked: another envelope"


def invalid(recording: Recording, refused: Refused) -> Verdict:
    place = f"byte {recording.frames.begin}"
    session = recording.session
    if session is not None:
        place += f", chunk {session.chunks + session.tails}, after {seconds(session.last_ms)}"
    content = "content: " if isinstance(refused, ContentRefused) else ""
    return Verdict(INVALID, f"INVALID at {place}: {content}{refused}")


def chunks(indices: list[int]) -> str:
    """`chunk 3` or `chunks 2-4, 7`."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][-1] == index - 1:
            runs[-1][1:] = [index]
        else:
            runs.append([index])
    return ("chunk " if len(indices) == 1 else "chunks ") + ", ".join("-".join(map(str, run)) for run in runs)


def seconds(time_ms: int) -> str:
    return f"{time_ms // 1000}.{time_ms % 1000:03d} s"
