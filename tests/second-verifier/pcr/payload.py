"""Payloads of events (5.1)."""

from . import limits
from .cbor import Cbor
from .event import Event
from .refusal import Refused, require

RAW_KINDS = (0x01, 0x02, 0x03)
IGNORABLE_KINDS = range(0x80, 0x100)

# Plaintexts of lines begin with their length, their ciphertexts end with a Poly1305 tag (6.1).
LENGTH_BYTES, TAG_BYTES = 2, 16
PAD_BYTES = limits.LINE_PAD_BYTES
SEALED_PLAIN_BYTES_MAX = -(-(LENGTH_BYTES + limits.LINE_BYTES_MAX) // PAD_BYTES) * PAD_BYTES


def require_sound(event: Event, version: int) -> None:
    """Refuses a kind that is not listed for this version, and a payload that is not as 5.1 says."""
    if event.kind in RAW_KINDS or event.kind in IGNORABLE_KINDS:
        return
    check = BEFORE_THREE.get(event.kind) if version < 3 else None
    check = check or PAYLOADS.get(event.kind)
    require(check is not None and SINCE.get(event.kind, 1) <= version, f"event: unknown kind {event.kind:#04x}")
    payload = Cbor(event.payload)
    try:
        check(payload)
        payload.end()
    except Refused as refused:
        reason = str(refused).removeprefix("malformed: ")
        raise Refused(f"event: malformed payload of kind {event.kind:#04x}: {reason}") from None


def array(*fields):
    def check(payload: Cbor) -> None:
        payload.array(len(fields))
        for field in fields:
            field(payload)

    return check


def text(payload: Cbor) -> None:
    payload.text(limits.EVENT_TEXT_BYTES_MAX)


def dump(payload: Cbor) -> None:
    payload.text(limits.KEYFRAME_DUMP_BYTES_MAX)


def key(payload: Cbor) -> None:
    payload.fixed(32)


def one_of_three(payload: Cbor) -> None:
    payload.uint(2, "number that names nothing")


def sealed_input(payload: Cbor) -> None:
    payload.array(3)
    payload.uint()
    counter, plain_bytes = payload.u32(), len(payload.bytes()) - TAG_BYTES
    padded = 0 < plain_bytes <= SEALED_PLAIN_BYTES_MAX and plain_bytes % PAD_BYTES == 0
    require(padded and counter < limits.LINE_SEALS_MAX, "sealed input of an impossible length or count")


def hidden_input(payload: Cbor) -> None:
    payload.array(3)
    payload.uint()
    size_class = payload.uint()
    require(limits.HIDDEN_CLASS_MIN <= size_class <= limits.HIDDEN_CLASS_MAX, "hidden input of no class")
    blob_bytes = LENGTH_BYTES + (1 << size_class) + TAG_BYTES
    require(len(payload.bytes()) == blob_bytes, "hidden input not padded to its class")


def accounts(payload: Cbor) -> None:
    channel = array(Cbor.u32, *[Cbor.uint] * 10)
    for _ in range(payload.array_length(limits.ACCOUNTS_CHANNELS_MAX)):
        channel(payload)


def notice(last: int):
    """Ways of a notice up to this number."""

    def check(payload: Cbor) -> None:
        payload.array(2)
        payload.bytes()
        payload.uint(last, "number that names nothing")

    return check


def digest(payload: Cbor) -> None:
    payload.array(3)
    one_of_three(payload)
    require(1 <= payload.uint() <= limits.DIGEST_BYTES_MAX, "digest of no bytes, or of too many")
    payload.fixed(32)


def file(payload: Cbor) -> None:
    payload.array(10)
    act = payload.uint(limits.FILE_ACTS - 1, "number that names nothing")
    for _ in ("path", "other"):
        require(len(payload.bytes()) <= limits.FILE_PATH_BYTES_MAX, "path over its bound")
    payload.uint(3, "number that names nothing")
    payload.text(limits.FILE_WORDS_BYTES_MAX)
    payload.time()
    crossed, whole = payload.uint(), payload.bytes()
    require(len(whole) in (0, 32), "byte string of another length")
    unknown = payload.text(limits.FILE_CODE_BYTES_MAX)
    ranges = payload.array_length(limits.FILE_RANGES_MAX)
    for _ in range(ranges):
        payload.array(3)
        offset, length = payload.uint(), payload.uint()
        payload.fixed(32)
        sound = length > 0 and offset + length <= limits.FILE_BYTES_MAX
        require(sound, "range of no bytes, or past the end of any file")
    if act <= 1:
        said = (len(whole) == 0) != (unknown == "")
    else:
        said = len(whole) == 0 and unknown == "" and crossed == 0 and ranges == 0
    require(said, "file of which is said what cannot be, or not what must")


def command(payload: Cbor) -> None:
    payload.array(10)
    source = payload.uint(4, "number that names nothing")
    one_of_three(payload)
    began, ended = payload.time(), payload.time()
    told = [payload.text(limits.COMMAND_TEXT_BYTES_MAX) for _ in ("text", "other")]
    payload.text(limits.COMMAND_CONTEXT_BYTES_MAX)
    payload.text(limits.COMMAND_DIRECTORY_BYTES_MAX)
    for _ in range(payload.array_length(1)):
        payload.u32()
    for _ in range(payload.array_length(limits.COMMAND_LABELS_MAX)):
        payload.text(limits.COMMAND_LABEL_BYTES_MAX)
    sound = began <= ended and (source != 4 or told == ["", ""])
    require(sound, "command that ends before it begins, or is hidden and told")


def hidden_line(payload: Cbor) -> None:
    payload.array(3)
    payload.uint()
    payload.text(limits.HIDDEN_PROMPT_BYTES_MAX)
    require(len(payload.bytes()) <= limits.HIDDEN_ENVELOPE_BYTES_MAX, "CBOR string over its bound")


def marker_text(event: Event) -> str:
    """What a sound marker says."""
    payload = Cbor(event.payload)
    payload.array(1)
    return payload.text(limits.EVENT_TEXT_BYTES_MAX)


PAYLOADS = {
    0x10: array(Cbor.u32, Cbor.u32, Cbor.u32, Cbor.u32),  # resize
    0x11: sealed_input,
    0x12: array(Cbor.uint, key),  # line-key
    0x13: hidden_input,
    0x20: array(text, text),  # channel-open
    0x21: array(text, Cbor.bytes, text),  # request
    0x22: array(text, Cbor.bool, text, text),  # decision
    0x23: notice(4),
    0x24: array(one_of_three, Cbor.uint, text),  # withheld
    0x25: array(one_of_three, Cbor.uint),  # undelivered
    0x26: array(one_of_three),  # eof
    0x27: array(Cbor.u32),  # exit-status
    0x28: array(text, Cbor.bool, text),  # exit-signal
    0x29: array(one_of_three),  # channel-close
    0x30: array(Cbor.u32, Cbor.u32, dump),  # keyframe
    0x31: array(Cbor.time, Cbor.time),  # clock-step
    0x32: array(text),  # marker
    0x33: accounts,
    0x34: array(text, text),  # end
    0x35: digest,
    0x36: file,
    0x37: command,
    0x38: hidden_line,
}

# Kinds that had less to say in versions 1 and 2.
BEFORE_THREE = {0x23: notice(2)}

# Kinds that came with a later version than 1.
SINCE = {0x35: 3, 0x36: 3, 0x37: 3, 0x38: 3}
