"""A gate under load that is made to crash, and what must be so afterwards.

The laws are those of ARCHITECTURE.md ("What always holds"). What the gate says of itself is held against what others
have seen: the bytes that the clients got, the words that commands wrote at the target, and the target's sshd, which logs
the session of each certificate it admits.
"""
import itertools, json, os, pathlib, random, re, shutil, subprocess, sys, threading, time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))
from gate import Rig  # noqa: E402

# Recovery included.
START_S = 60
CLIENTS_END_S = 20
JOURNAL_MAGIC = b"portcullis-ledger/v1 journal\n"
UPLOAD = "".join(f"uploaded {n}\n" for n in range(20_000)).encode()


class Violation(Exception):
    pass


class Seen:
    """What one client saw of one session."""

    def __init__(self, word, kind):
        self.word, self.kind, self.code = word, kind, None
        self.chunks = []  # (monotonic seconds, bytes)

    def until(self, moment):
        """The bytes that had come by then."""
        return b"".join(data for at, data in self.chunks if at <= moment)


class World(Rig):
    def __init__(self, binaries, folder):
        self.player = pathlib.Path(binaries) / "portcullis-player"
        super().__init__(binaries, folder)
        self.dialed = self.dir / "dialed"
        self.dialed.touch()
        (self.dir / "up").mkdir()
        (self.dir / "upload").write_bytes(UPLOAD)
        self.checked = {}  # session -> what its recording holds
        self.words = 0

    def configured(self, text):
        # A small disk, for power cuts.
        return re.sub(r"(?m)^#? ?spool_reserve_mib = .*$", "spool_reserve_mib = 16", text)

    def start(self, before=()):
        """Starts the server; whether it lives until it is ready and has recovered everything."""
        log = self.dir / "serve.err"
        said = log.stat().st_size if log.exists() else 0
        self.launch(before)
        end = time.monotonic() + START_S
        while not (self.ready() and not self.spooled()):
            if self.server.poll() is not None:
                return False
            stays = [line for line in log.read_bytes()[said:].decode().splitlines() if "it stays where it is" in line]
            if stays:
                raise Violation(f"not recovered: {stays}")
            if time.monotonic() > end:
                raise Violation(f"not ready, or not recovered, after {START_S} s: {self.spooled()}")
            time.sleep(0.01)
        return True

    def spooled(self):
        return [p.name for p in (self.state / "spool").iterdir() if p.is_dir() and re.fullmatch("[0-9a-f]{32}", p.name)]

    def alive(self):
        return self.server.poll() is None

    def dies(self):
        """Whether it is about to be gone."""
        try:
            self.server.wait(2)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self):
        self.server.kill()
        self.server.wait()
        self.children.remove(self.server)

    def keep(self, folder, number):
        """Keeps everything of this run, to be looked at."""
        if self.alive():
            self.kill()
        left_out = shutil.ignore_patterns("*.sock", "image")
        shutil.copytree(self.dir, pathlib.Path(folder) / f"violation-{os.getpid()}-{number}", ignore=left_out)

    # What is going on

    def word(self):
        self.words += 1
        return f"w{os.getpid()}x{self.words}x"

    def ssh_command(self, *args):
        return ["ssh", "-F", str(self.dir / "cfg"), *args]

    def client(self, seen, command, stdin=None, typed=None):
        """Runs one client to its end, noting what it gets and when."""
        child = subprocess.Popen(command, stdin=subprocess.PIPE if typed else stdin or subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
        if typed:
            threading.Thread(target=self.type, args=(child, seen, typed), daemon=True).start()
        while data := child.stdout.read(1 << 16):
            seen.chunks.append((time.monotonic(), data))
        seen.code = child.wait()

    @staticmethod
    def type(child, seen, typed):
        """Types a line, waits for its echo and its answer, types the next one."""
        try:
            for n in itertools.count():
                line = f"{typed} {n}".encode()
                child.stdin.write(line + b"\n")
                while seen.until(float("inf")).count(line + b"\r\n") < 2 and child.poll() is None:
                    time.sleep(0.01)
        except OSError:
            pass

    def load(self, over):
        """Sessions of all kinds until `over` is set; gives the threads and the list that they fill."""
        seen = []

        def begin(kind):
            one = Seen(self.word(), kind)
            seen.append(one)
            return one, f"echo {one.word} >>{self.dialed}; echo {one.word}"

        def lines():
            one, say = begin("lines")
            self.client(one, self.ssh_command("ours", f"{say}; i=0; while :; do i=$((i+1)); echo line $i; "
                                                      "[ $((i % 40)) -ne 0 ] || sleep 0.01; done"))

        def bulk():
            one, say = begin("bulk")
            self.client(one, self.ssh_command("ours", f"{say}; seq 1 300000; sleep 60"))

        def terminal():
            one, say = begin("terminal")
            self.client(one, self.ssh_command("-tt", "ours", f"{say}; exec cat"), typed=one.word)

        def upload():
            one, say = begin("upload")
            with open(self.dir / "upload", "rb") as source:
                self.client(one, self.ssh_command("ours", f"{say}; cat >{self.dir}/up/{one.word}"), stdin=source)

        def short():
            one, say = begin("short")
            self.client(one, self.ssh_command("ours", f"{say}; seq 1 {random.randrange(1, 3000)}"))

        def scp():
            one = Seen(self.word(), "scp")
            seen.append(one)
            self.client(one, ["scp", "-O", "-q", "-F", str(self.dir / "cfg"), str(self.dir / "upload"),
                              f"ours:{self.dir}/up/{one.word}"])

        def again(*kinds):
            while not over.is_set():
                random.choice(kinds)()

        plans = [(lines,), (bulk, short), (terminal,), (upload, short), (short, scp), (short,)]
        threads = [threading.Thread(target=again, args=plan, daemon=True) for plan in plans]
        for thread in threads:
            thread.start()
        return threads, seen

    @staticmethod
    def gone(threads):
        end = time.monotonic() + CLIENTS_END_S
        for thread in threads:
            thread.join(max(0.1, end - time.monotonic()))
            if thread.is_alive():
                raise Violation("a client does not end although the gate is gone")

    # What must be so

    def journal(self):
        """Sessions opened and sealed, each with how often, from the ledger's own file."""
        data = (self.state / "ledger/journal").read_bytes()
        if not data.startswith(JOURNAL_MAGIC):
            raise Violation("the journal is none")
        at = data.index(b"\n\n") + 2
        said = {"open": {}, "seal": {}}
        while at < len(data):
            length = int.from_bytes(data[at:at + 4], "big")
            body = data[at + 44:at + 44 + length]
            match = re.match(rb"\xa7\x00\x64(open|seal)\x01\x50(.{16})", body, re.S)
            if match:
                one = said[match[1].decode()]
                one[match[2].hex()] = one.get(match[2].hex(), 0) + 1
            at += 44 + length + 32
        return said["open"], said["seal"]

    def admitted(self):
        """Sessions whose certificates the target has admitted."""
        log = (self.dir / "target.log").read_bytes()
        return {m.decode() for m in re.findall(rb"Accepted publickey .* session=([0-9a-f]{32})", log)}

    def recording(self, session):
        """What a recording holds as its verifier tells: all text in it, output and input."""
        file = self.state / f"archive/{session}.pcr"
        export = subprocess.run([self.player, "export", "--format", "asciicast-v2", "--input", "--trust",
                                 self.state / "trust.toml", file], capture_output=True, timeout=START_S)
        verify = subprocess.run([self.player, "verify", "--json", "--content", "--trust", self.state / "trust.toml", file],
                                capture_output=True, timeout=START_S)
        if verify.returncode not in (0, 10):
            raise Violation(f"{file}: verify ends with {verify.returncode}: {verify.stdout.decode()[:600]}")
        output, given, rest = [], [], []
        if export.returncode in (0, 10):
            for line in export.stdout.split(b"\n")[1:]:
                if line:
                    _, code, text = json.loads(line)
                    {"o": output, "i": given}.get(code, rest).append(text)
        return {"verdict": verify.returncode, "output": "".join(output).encode(), "input": "".join(given).encode(),
                "marks": "\n".join(rest), "export": export.returncode}

    def check(self, seen, sure=None):
        """Everything that must hold once all is recovered. What came to clients after `sure` may be lost."""
        problems = []
        opens, seals = self.journal()
        for session in opens.keys() | seals.keys():
            if opens.get(session) != 1 or seals.get(session) != 1:
                problems.append(f"session {session}: {opens.get(session, 0)} opened, {seals.get(session, 0)} sealed")
        archived = {p.stem for p in (self.state / "archive").glob("*.pcr")}
        if archived != seals.keys():
            problems.append(f"archived and not sealed, or the other way: {archived ^ seals.keys()}")
        if lost := self.admitted() - opens.keys():
            problems.append(f"law 8: dialled without an open leaf: {lost}")
        if damaged := list((self.state / "spool").glob(".damaged/*")):
            problems.append(f"a crash is told as damage: {[p.name for p in damaged]}")
        for session in archived - self.checked.keys():
            try:
                self.checked[session] = self.recording(session)
            except Violation as violation:
                problems.append(str(violation))
                self.checked[session] = None
        problems += self.law_1(seen, sure)
        fsck = subprocess.run([self.bin, "--state", self.state, "--json", "ledger", "fsck"], capture_output=True, timeout=START_S)
        if fsck.returncode != 0:
            problems.append(f"fsck: {fsck.stdout.decode()[:1500]} {fsck.stderr.decode()[:300]}")
        live = json.loads(self.run("--state", self.state, "--json", "sessions").stdout)["sessions"]
        if open_rows := [s["id"] for s in live if not s.get("ended")]:
            problems.append(f"the store has sessions that never ended: {open_rows}")
        for session, held in self.checked.items():
            # Compared; only who it was is needed from here on.
            if held:
                self.checked[session] = {"verdict": held["verdict"]}
        if problems:
            raise Violation("\n".join(problems))

    def law_1(self, seen, sure):
        held = [one for one in self.checked.values() if one and "output" in one]
        dialed = self.dialed.read_text().split()
        self.first_lost = None
        for one in seen:
            word = one.word.encode()
            needed = one.until(float("inf") if sure is None else sure)
            if one.kind == "scp":
                yield from self.uploaded(one, held)
                continue
            record = next((r for r in held if word in r["output"] or one.word in r["marks"]), None)
            if record is None:
                if needed:
                    yield f"law 1: no recording holds what {one.kind} {one.word} saw ({len(needed)} bytes)"
                elif one.word in dialed and sure is None:
                    yield f"law 2: {one.kind} {one.word} ran at the target and no recording tells of it"
                self.lost(one, 0)
                continue
            if not record["output"].startswith(needed):
                yield (f"law 1: {one.kind} {one.word} saw {len(needed)} bytes, the recording holds "
                       f"{len(record['output'])} and not the same")
            self.lost(one, len(record["output"]))
            if one.kind == "upload":
                yield from self.uploaded(one, [record])

    def lost(self, one, kept):
        """Notes when the first byte came that no recording holds."""
        total = 0
        for at, data in one.chunks:
            total += len(data)
            if total > kept:
                self.first_lost = min(at, self.first_lost or at)
                return

    def uploaded(self, one, held):
        """What lies at the target came through a recording."""
        there = self.dir / "up" / one.word
        data = there.read_bytes() if there.exists() else b""
        if data and self.complete and not any(data in r["input"] for r in held):
            yield f"law 1: {one.kind} {one.word} left {len(data)} bytes at the target that no recording holds"

    # A power cut may lose input of the last second.
    complete = True
