"""A spool: the folder of a session that goes on or has crashed (7.5)."""

from copy import copy
from pathlib import Path

from . import limits
from .frame import TornFile
from .recording import Recording
from .refusal import Refused, require
from .tail import Unopened


def read(main: Recording, folder: Path) -> int | None:
    """How far the session's keys vouch for what is in the folder, in milliseconds; None if its file is finished."""
    main.open()
    require(main.redaction is None, "a redaction in a spool")
    try:
        while main.next_chunk():
            pass
        finished = copy(main.session)
        try:
            main.finish()
            return None
        except TornFile:
            # Whoever was about to finish the file begins again behind the chunks.
            main.session = finished
    except TornFile:
        pass
    session = main.session
    # Of a key that is not trusted nothing more is asked.
    if not session.untrusted:
        read_tails(main, folder)
    vouched = session.vouched()
    vouched.end()
    return vouched.until_ms


def read_tails(main: Recording, folder: Path) -> None:
    """What follows the chunks, until something is missing."""
    session = main.session
    if not tail_path(folder, session.chunks).exists():
        main.frames.file.seek(main.chunks_end)
        try:
            session.torn_chunk(main.frames.file.read(limits.CHUNK_STORED_BYTES_MAX))
        except Refused:
            # Whatever else the torn end was to hold is missing.
            pass
    while session.tails < limits.TAILS_MAX:
        path = tail_path(folder, session.chunks + session.tails)
        try:
            with path.open("rb") as file:
                session.tail_file(file.read(limits.TAIL_BYTES_MAX), torn=True)
        except (FileNotFoundError, Unopened):
            break


def tail_path(folder: Path, index: int) -> Path:
    return folder / f"tail-{index:06d}"
