"""What is known of a session at some place in its recording, and what may follow there.

A finished file and a spool have this in common: a head, chunks with their leaves, and tails.
"""

from hashlib import sha256

from . import event, limits, payload, statement, tail, tree
from .chunk import Chunk
from .cursor import varint_bytes
from .encryption import EncryptedChunk, Keys, Opened
from .redaction import Replaced, is_mark
from .refusal import ContentRefused, Refused, Untrusted, require
from .trust import Trust


class Session:
    def __init__(self, head_content: bytes, head_frame: bytes, trust: Trust, opened: Opened | None):
        self.head = statement.head(head_content)
        require(
            self.head.signed.signed_by(self.head.node_key, "head"),
            "the node's signature over the head does not verify",
        )
        # Whether a key it rests on is not trusted; nothing more is asked about trust then (8.1).
        self.untrusted = False
        self.require_node(trust, self.head.node_key, self.head.opening_ms)
        self.head_hash = sha256(head_frame).digest()
        self.encrypted = self.head.envelope is not None
        self.keys: Keys | None = None
        if self.encrypted and opened is not None and opened.belongs_to(self.head.envelope):
            self.keys = Keys(opened.content_key, self.head_hash)
        # Whether there is content that nobody here could read.
        self.locked = False
        self.chunks = self.raw_bytes = self.events = 0
        self.tree = tree.Tree()
        self.before = self.head_hash
        # k_i for the chunk or tail that comes next; None behind a tail, whose successor brings its own.
        self.key: bytes | None = self.head.key
        # Who opens the next tail: k_(i-1), or k_0 for the first.
        self.opener = self.head.key
        self.last_ms = 0
        self.index = bytearray()
        self.index_last = (0, 0)
        # SHA-256 of the last Accounts payload, or zeros.
        self.accounts = bytes(statement.HASH_BYTES)
        self.tails = 0
        self.tails_hash = sha256()
        self.vouching: tail.Vouching | None = None

    def require_node(self, trust: Trust, key: bytes, wall_ms: int) -> None:
        if not self.untrusted:
            try:
                trust.require_node(key, wall_ms)
            except Untrusted:
                self.untrusted = True

    def push_chunk(
        self, offset: int, chunk: Chunk | EncryptedChunk, leaf_content: bytes, replaced: Replaced | None
    ) -> statement.Leaf:
        """The chunk that begins at `offset` in the original, or what a redactor put in its place."""
        require(self.chunks < limits.CHUNKS_MAX, "more chunks than may be")
        leaf = statement.leaf(leaf_content)
        require(leaf.index == self.chunks, f"the leaf has index {leaf.index}, not {self.chunks}")
        require(leaf.before == self.before, "the leaf does not follow the one before it")
        require(leaf.signed.signed_by(self.key, "leaf"), "the leaf is not signed by the key of its epoch")
        require(leaf.next_key != self.key, "the leaf hands over to its own key")
        require(self.last_ms <= leaf.first_ms <= leaf.last_ms, "times run backwards")
        stands = leaf
        if replaced is not None:
            replaced.require_frame(chunk, leaf)
            stands = replaced.stands_for(leaf)
        require(stands.stored_bytes == len(chunk.frame), "the chunk is not as long as its leaf says")
        require(
            stands.chunk_hash == sha256(chunk.frame).digest(),
            "the chunk's bytes are not those that were signed",
        )
        if self.encrypted:
            require(leaf.flags & statement.FLAG_STORED == 0, "malformed: a stored chunk in an encrypted recording")
            require(leaf.raw_bytes <= limits.CHUNK_RAW_BYTES_MAX, "malformed: chunk over its bound")
            self.accounts = self.encrypted_content(chunk, leaf) or self.accounts
        else:
            require_plain(chunk, stands)
            self.accounts = require_content(self.head.version, chunk, stands, replaced) or self.accounts
        self.before = tree.leaf_hash(leaf.signed.statement)
        self.tree.push(self.before)
        self.index += varint_bytes(offset - self.index_last[0]) + varint_bytes(leaf.first_ms - self.index_last[1])
        self.index.append(leaf.flags)
        self.index_last = (offset, leaf.first_ms)
        self.chunks += 1
        self.raw_bytes += leaf.raw_bytes
        self.events += leaf.events
        self.opener, self.key = self.key, leaf.next_key
        self.last_ms = leaf.last_ms
        return leaf

    def encrypted_content(self, chunk: EncryptedChunk, leaf: statement.Leaf) -> bytes | None:
        if self.keys is None:
            self.locked = True
            return None
        try:
            opened = self.keys.open_chunk(leaf.index, chunk, leaf.raw_bytes)
        except Refused as refused:
            raise ContentRefused(str(refused)) from None
        return require_content(self.head.version, opened, leaf, None)

    def push_tail(self, content: bytes, frame: bytes = b"") -> None:
        """A TAIL of a finished file: nothing in it may be torn (8.2 rule 8)."""
        require(self.tails < limits.TAILS_MAX, "more tails than may be")
        require(len(content) > 0, "malformed: an empty tail")
        self.tails_hash.update(frame)
        kind, data = content[0], content[1:]
        require(kind in (tail.KIND_FILE, tail.KIND_CHUNK), "malformed: unknown kind of tail")
        if kind == tail.KIND_CHUNK:
            require(self.torn_chunk(data) == len(data), "malformed: a torn record in a recovered tail")
        else:
            self.tail_file(data, torn=False)

    def torn_chunk(self, data: bytes) -> int:
        """The blocks of a chunk that takes the place of the first tail; how many of the bytes they are."""
        require(not self.encrypted, "malformed: a stored chunk in an encrypted recording")
        require(self.tails == 0, "a torn chunk that is not the first tail")
        torn = tail.torn_chunk(data, self.head.version)
        require(torn.first_ms >= self.last_ms, "times run backwards")
        # No key of the session vouches for it.
        self.vouched().end()
        self.tails += 1
        self.opener, self.key = self.key, None
        self.last_ms = torn.last_ms
        return torn.stored_bytes

    def tail_file(self, data: bytes, torn: bool) -> None:
        """The bytes of a tail file, which may end with a torn record or not."""
        index = self.chunks + self.tails
        read = tail.read(data, index, self.opener, self.key, self.head)
        require(index > 0 or read.opened.before == self.head_hash, "the first tail does not follow the head")
        require(read.opened.from_ms >= self.last_ms, "times run backwards")
        if read.torn is not None and not torn:
            raise Refused("malformed: a torn record in a recovered tail") from read.torn
        self.sealed_rows(index, read.sealed)
        self.vouched().push(read)
        self.tails += 1
        self.opener, self.key = read.opened.key, None
        self.last_ms = read.last_ms

    def sealed_rows(self, index: int, sealed: list[event.Event]) -> None:
        """Reads the events of an encrypted tail, as far as the key is here."""
        if self.keys is None:
            self.locked |= self.encrypted
            return
        try:
            for number, row in enumerate(sealed):
                payload.require_sound(self.keys.open_row(index, number, row), self.head.version)
        except Refused as refused:
            raise ContentRefused(str(refused)) from None

    def vouched(self) -> tail.Vouching:
        if self.vouching is None:
            self.vouching = tail.Vouching(self.last_ms)
        return self.vouching


def require_plain(chunk: Chunk, leaf: statement.Leaf) -> None:
    stored = leaf.flags & statement.FLAG_STORED != 0
    sound = leaf.raw_bytes == chunk.raw_bytes and stored == chunk.stored
    require(sound, "zstd frame refused: the content is not as long as its leaf says")


def require_content(
    version: int, chunk: Chunk, leaf: statement.Leaf, replaced: Replaced | None
) -> bytes | None:
    """Reads what was signed (8.2 rule 9), the very bytes whose hash was checked (8.3); the hash of the last Accounts."""
    try:
        first = last = accounts = None
        count, marks, line_keys = 0, 0, False
        for read_event in event.of_content(chunk.content()):
            require(read_event.kind != event.CHECK, not_stated("a check outside a tail"))
            payload.require_sound(read_event, version)
            first, last = first or read_event, read_event
            if read_event.kind == event.ACCOUNTS:
                accounts = sha256(read_event.payload).digest()
            line_keys |= read_event.kind == event.LINE_KEY
            count += 1
            marks += is_mark(read_event)
        require(count == leaf.events, not_stated("another number of events"))
        require((first.time_ms, last.time_ms) == (leaf.first_ms, leaf.last_ms), not_stated("other times"))
        keyframe = leaf.flags & statement.FLAG_KEYFRAME != 0
        require((first.kind == event.KEYFRAME) == keyframe, not_stated("the keyframe flag is wrong"))
        stated = leaf.flags & statement.FLAG_LINE_KEYS != 0
        require(line_keys == stated, not_stated("the line key flag is wrong"))
        require(replaced is None or marks == replaced.marks, not_stated("another number of marks"))
        return accounts
    except Refused as refused:
        raise ContentRefused(str(refused)) from None


def not_stated(what: str) -> str:
    return "the chunk's content is not what its leaf states: " + what
