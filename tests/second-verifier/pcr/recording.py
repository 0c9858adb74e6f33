"""A finished recording: HEAD [REDACTION] (CHUNK LEAF)* TAIL* INDEX SEAL SEEKTABLE (section 3)."""

from hashlib import sha256

from . import frame, limits, statement
from .encryption import Opened
from .frame import Frames, TornFile
from .redaction import Redaction
from .refusal import ContentRefused, Refused, Untrusted, require
from .session import Session
from .trust import Trust

SEEKABLE_MAGIC = 0x8F92EAB1
SEEK_ENTRY_BYTES = 8


class Recording:
    """Reads a file from its beginning to its end. What was refused is at `frames.begin`."""

    def __init__(self, frames: Frames, trust: Trust, opened: Opened | None = None):
        self.frames = frames
        self.trust = trust
        self.opened = opened
        self.session: Session | None = None
        self.seal: statement.Seal | None = None
        self.seek_entries = bytearray()
        self.seek_frames = 0
        self.redaction: Redaction | None = None
        # The redactor's name in the trust file.
        self.redactor = ""
        # Where the next chunk begins in the original, and how many bytes longer that is than what stands here.
        self.original_at = self.original_more = 0
        # Where the last finished chunk ends, or the HEAD.
        self.chunks_end = 0

    def read(self) -> None:
        self.open()
        while self.next_chunk():
            pass
        self.finish()

    def finish(self) -> None:
        """Reads what comes behind the chunks."""
        while self.next_is(frame.TAIL):
            content, whole = self.skippable(limits.TAIL_FRAME_BYTES_MAX)
            self.session.push_tail(content, whole)
        if self.next_is(None):
            raise TornFile("there is no seal")
        self.read_index()
        self.read_seal()
        self.read_seek_table()
        require(self.frames.at == self.frames.size, "bytes after the end")

    def open(self) -> None:
        try:
            begins = self.next_is(frame.HEAD)
        except Refused:
            begins = False
        require(begins, "not a recording")
        self.session = Session(*self.skippable(limits.HEAD_BYTES_MAX), self.trust, self.opened)
        self.chunks_end = self.original_at = self.frames.at
        if self.begins_redaction():
            self.read_redaction()

    def begins_redaction(self) -> bool:
        try:
            return self.next_is(frame.REDACTION)
        except TornFile:
            # A spool may end here.
            return False

    def read_redaction(self) -> None:
        content, whole = self.skippable(limits.REDACTION_BYTES_MAX)
        require(not self.session.encrypted, "a redaction in an encrypted recording")
        self.redaction = Redaction(content, self.session.head_hash)
        # With its entry in the seek table.
        self.original_more -= len(whole) + SEEK_ENTRY_BYTES
        if not self.session.untrusted:
            try:
                self.redactor = self.trust.redactor(self.redaction.key, self.redaction.wall_ms)
            except Untrusted:
                self.session.untrusted = True

    def next_is(self, magic: int | None) -> bool:
        return self.frames.peek() == magic

    def next_chunk(self) -> bool:
        """Reads the next chunk and its leaf; False if something else follows."""
        encrypted = self.session.encrypted
        if not self.next_is(frame.ENCRYPTED if encrypted else frame.CHUNK):
            return False
        offset = self.frames.at
        chunk = self.frames.encrypted_chunk() if encrypted else self.frames.chunk()
        self.listed(len(chunk.frame), chunk.raw_bytes)
        begin = self.frames.at
        frame.require_magic(self.frames.peek(), frame.LEAF)
        content, whole = self.skippable(limits.STATEMENT_BYTES_MAX)
        # What a leaf is refused for is mostly its chunk.
        self.frames.begin = offset
        replaced = None if self.redaction is None else self.redaction.replaced.get(self.session.chunks)
        leaf = self.session.push_chunk(self.original_at, chunk, content, replaced)
        self.original_at += leaf.stored_bytes + len(whole)
        self.original_more += leaf.stored_bytes - len(chunk.frame)
        self.frames.begin = begin
        self.chunks_end = self.frames.at
        return True

    def read_index(self) -> None:
        frame.require_magic(self.frames.peek(), frame.INDEX)
        content, _ = self.skippable(limits.INDEX_ENTRY_BYTES_MAX * self.session.chunks)
        require(content == self.session.index, "the index is not the one the chunks give")

    def read_seal(self) -> None:
        frame.require_magic(self.frames.peek(), frame.SEAL)
        content, whole = self.skippable(limits.STATEMENT_BYTES_MAX)
        if self.redaction is not None:
            self.redaction.require_end(whole, self.session.chunks)
        seal, session = statement.seal(content), self.session
        require(seal.head_hash == session.head_hash, "the seal belongs to another session")
        signer = session.key
        if seal.recovery is not None:
            self.require_recovered(seal)
            signer = seal.recovery.node_key
        else:
            require(session.tails == 0, "a sealed file with tails")
        require(seal.signed.signed_by(signer, "seal"), "the seal's signature does not verify")
        counts = (session.chunks, session.raw_bytes, session.events)
        require((seal.chunks, seal.raw_bytes, seal.events) == counts, "the seal counts the chunks differently")
        require(seal.root == session.tree.root(), "the seal's root is not that of the chunks")
        require(seal.index_hash == sha256(session.index).digest(), "the seal names another index")
        require(seal.close_ms >= session.last_ms, "the seal closes before the last event")
        if seal.recovery is None and not session.locked and seal.accounts != session.accounts:
            raise ContentRefused("the accounts are not those that were sealed")
        self.seal = seal

    def require_recovered(self, seal: statement.Seal) -> None:
        recovery, session = seal.recovery, self.session
        session.require_node(self.trust, recovery.node_key, session.head.opening_ms + seal.close_ms)
        require(seal.accounts == bytes(statement.HASH_BYTES), "the seal of a recovered file states accounts")
        require(recovery.tails_hash == session.tails_hash.digest(), "the seal names other tails")
        vouched = session.vouched()
        vouched.end()
        require(recovery.chunks == session.chunks, "the seal counts vouched chunks differently")
        require(recovery.tail_bytes == vouched.tail_bytes, "the seal counts vouched tail bytes differently")
        require(recovery.until_ms == vouched.until_ms, "the seal states another end of the vouching")

    def read_seek_table(self) -> None:
        frame.require_magic(self.frames.peek(), frame.SEEK_TABLE)
        footer = self.seek_frames.to_bytes(4, "little") + b"\0" + SEEKABLE_MAGIC.to_bytes(4, "little")
        expected = bytes(self.seek_entries) + footer
        content, _ = self.frames.skippable(len(expected))
        require(content == expected, "the seek table is not the one the frames give")

    def original_bytes(self) -> int:
        """Bytes of the whole file, of the original if this is a copy."""
        return self.frames.size + self.original_more

    def node_keys(self) -> list[tuple[bytes, int]]:
        """The node keys this recording rests on, and when each says it signed."""
        head = self.session.head
        keys = [(head.node_key, head.opening_ms)]
        if self.seal is not None and self.seal.recovery is not None:
            keys.append((self.seal.recovery.node_key, head.opening_ms + self.seal.close_ms))
        return keys

    def skippable(self, most: int) -> tuple[bytes, bytes]:
        content, whole = self.frames.skippable(most)
        self.listed(len(whole), 0)
        return content, whole

    def listed(self, stored_bytes: int, raw_bytes: int) -> None:
        """Takes the frame into the seek table that must come in the end (3.7)."""
        self.seek_entries += stored_bytes.to_bytes(4, "little") + raw_bytes.to_bytes(4, "little")
        self.seek_frames += 1
