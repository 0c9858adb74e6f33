"""A spool: the folder of a session that goes on or has crashed (7.4)."""

from pathlib import Path

from . import limits
from .frame import TornFile
from .recording import Recording
from .refusal import CutOff, Refused, require


def read(main: Recording, folder: Path) -> int | None:
    """How far the session's keys vouch for what is in the folder, in milliseconds; None if its file is finished."""
    main.open()
    session = main.session
    require(folder.resolve().name == session.head.session.hex(), "a spool folder that is not named by its session")
    try:
        while main.next_chunk():
            pass
        if not main.next_is(None):
            main.finish()
            return None
    except TornFile:
        # The torn end: what it was to hold is in a tail, or missing.
        pass
    for index in range(session.chunks, session.chunks + limits.TAILS_MAX):
        path = folder / f"tail-{index:06d}"
        if path.exists():
            try:
                session.tail_file(read_bounded(path), torn=True)
            except CutOff:
                break
        elif session.key is not None:
            session.gap()
        else:
            # Nobody knows who opens a tail behind one that is missing.
            break
    vouched = session.vouched()
    vouched.end()
    return vouched.until_ms


def read_bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(limits.TAIL_BYTES_MAX + 1)
    if len(data) > limits.TAIL_BYTES_MAX:
        raise Refused("a tail over its bound")
    return data
