"""Random secrets typed at real prompts that do not echo: none may be readable in anything that the gate keeps.

Each is typed as people type: key by key or at once, with letters rubbed out, begun anew, given up, and again after "try
again". Everything that was written is searched for every run of letters of every secret: spools while they are live, and
recordings as they are and decompressed, ledger, store, logs. Whatever the recordings show of typed lines must be a line
that was no secret. Then ordinary lines are typed at shells: of these, what is hidden is counted.
"""
import argparse, collections, contextlib, concurrent.futures, fcntl, functools, json, os, pathlib, pty, random, re, select, string
import struct, subprocess, sys, tempfile, termios, threading, time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))
from gate import LIMIT_S, Rig, wait_for  # noqa: E402

AT_ONCE = 32
SECRETS_A_SESSION, LINES_A_SESSION = 25, 25
# Ordinary lines for each ten secrets.
LINES_FOR_TEN = 2
SECRET_CHARS = (9, 20)
LETTERS = string.ascii_letters + string.digits + "!#$%&()*+,-./:;<=>?@[]^_{|}~ "
# Runs of a secret that are searched for, at every third place: together they find whatever has nine letters of it in a row.
RUN_BYTES, STRIDE = 7, 3
# Until a prompt comes: pam waits two seconds after a wrong password, on a busy machine longer.
PROMPT_S, SEAL_S, LIVE_LOOK_S = 60, 120, 5
PROMPT = "canary# "
ENTER, BACK, KILL, INTERRUPT, TAB = b"\r", b"\x7f", b"\x15", b"\x03", b"\t"
UP, LEFT, HOME, END, WORD, SEARCH = b"\x1b[A", b"\x1b[D", b"\x01", b"\x05", b"\x17", b"\x12"
HIDDEN_MAX = 0.001
# Ordinary lines: the longest from a key to the next. As fast as a paste comes, a line may be killed before any of it was echoed.
TYPED = "at a person's pace"
SLOWEST_KEY_S = {TYPED: 0.15, "as fast as a paste": 0.003}
# Output that is done with; and until a program that asks has switched its echo off.
SETTLES_S, ASKED_S = 0.06, 0.15
# The player's exit code for a recording whose proof is not there yet.
NOT_IN_LEDGER = 12

NOBODY = "setpriv --reuid=nobody --regid=nogroup --clear-groups"
# Command, what it asks with, and how often it asks. `{port}` is an sshd that takes passwords.
PROMPTS = {
    "read -s": ("read -rsp 'Secret: ' x", "Secret: ", 1),
    "read -s, twice": ("read -rsp 'Secret: ' x; read -rsp 'Again: ' x", "(Secret|Again): ", 2),
    "stty -echo": ("stty -echo; echo ready; read -r x; stty echo", "ready\r\n", 1),
    "getpass": ("python3 -c 'import getpass; getpass.getpass()'", "Password: ", 1),
    "sudo": (NOBODY + " sudo -k true", r"password for nobody: ", 3),
    "su": (NOBODY + " su root -c true", "Password: ", 1),
    "ssh": ("ssh -F /dev/null -p {port} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
            " -o PreferredAuthentications=password -e none canary@127.0.0.1", "password: ", 3),
    "mariadb": ("mariadb -h 127.0.0.1 -P 1 -u canary -p", "Enter password: ", 1),
    "psql": ("psql -W -h 127.0.0.1 -p 1 -U canary db", "Password: ", 1),
    "stars": ("python3 {folder}/stars.py", "Secret: ", 1),
    "pinentry": ("printf 'OPTION ttyname=%s\\nOPTION ttytype=xterm\\nGETPIN\\n' $(tty) | pinentry-curses > /dev/null", r"OK>", 1),
}
# Two seconds each: seldom.
WEIGHTS = {"sudo": 2, "su": 2, "pinentry": 2} | {name: 8 for name in ("read -s", "read -s, twice", "stty -echo", "getpass", "ssh", "mariadb", "psql", "stars")}
# Where ^C ends the command and leaves the terminal as it was.
GIVEN_UP = ("read -s", "getpass", "sudo", "su", "ssh")
STARS = """import os, sys, termios, tty
before = termios.tcgetattr(0)
tty.setraw(0)
os.write(1, b"Secret: ")
while (key := os.read(0, 1)) not in (b"\\r", b"\\x03"):
    os.write(1, b"\\b \\b" if key == b"\\x7f" else b"" if key == b"\\x15" else b"*")
termios.tcsetattr(0, termios.TCSANOW, before)
print()
"""
SHELLS = ("bash --norc --noprofile", "zsh -f", f"fish --no-config -C 'function fish_prompt; echo -n \"{PROMPT}\"; end'")
WORDS = "alpha bravo charlie delta golf hotel india juliet kilo lima mike november oscar papa quebec".split()
ORDINARY = ["ls -l /", "uname -a", "id", "date +%s", "cat /etc/hostname", "wc -l /etc/passwd", "echo {w} {w}", "grep -c root /etc/passwd",
            "true", "pwd", "cd /tmp", "cd", "sort /etc/passwd | tail -n 2", "seq 1 5", "echo {n} > /dev/null", "ls /etc | head -n 4",
            "du -s /etc/apt", "echo 'a  b' | wc -c", "tail -n 1 /etc/group", "test -d /tmp && echo {w}"]


class House(Rig):
    def sshd_configured(self, name, text):
        return text.replace("PasswordAuthentication no", "PasswordAuthentication yes") if name == "jump" else text

    def kept(self):
        """Every file that the gate keeps, and what it says."""
        # Unlike rglob, walk bears that a spool goes meanwhile.
        below = (pathlib.Path(folder) / name for folder, _, names in os.walk(self.state) for name in names)
        yield from (path for path in below if path.is_file() and not path.is_symlink())
        yield from (self.dir / name for name in ("serve.out", "serve.err"))


class Terminal:
    """A session through the gate, with somebody in front of it."""

    def __init__(self, house, command, rng):
        self.rng, self.seen, self.all = rng, b"", bytearray()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
                os.execvp("ssh", ["ssh", "-F", str(house.dir / "cfg"), "-e", "none", "-tt", "ours", command])
            finally:
                os._exit(127)

    def wait(self, pattern, limit=PROMPT_S):
        """Until what came since the last match matches; what matched is taken."""
        until = time.monotonic() + limit
        sought = re.compile(pattern.encode())
        while not (found := sought.search(self.seen)):
            if not self.read(until - time.monotonic()):
                raise TimeoutError(f"no {pattern!r} after {bytes(self.all[-400:])!r}")
        self.seen = self.seen[found.end():]
        return found[0]

    def read(self, limit):
        if limit <= 0 or not select.select([self.fd], [], [], limit)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        self.seen += data
        self.all += data
        return bool(data)

    def quiet(self, seconds):
        while self.read(seconds):
            pass

    def send(self, data):
        while data:
            data = data[os.write(self.fd, data):]

    def type(self, data, slowest):
        """Key by key; now and then a few at once. A key's sequence comes whole."""
        keys = re.findall(rb"\x1b\[.|.", data, re.DOTALL)
        while keys:
            count = self.rng.choice((1, 1, 1, 2, 3))
            self.send(b"".join(keys[:count]))
            del keys[:count]
            time.sleep(self.rng.uniform(0, slowest))
            while self.read(0.0001):
                pass

    def run(self, command):
        self.quiet(SETTLES_S)
        self.seen = b""
        self.send(command.encode() + ENTER)
        self.wait("\r\n")

    def end(self):
        self.send(b"exit" + ENTER)
        until = time.monotonic() + PROMPT_S
        while self.read(until - time.monotonic()):
            pass
        os.close(self.fd)
        os.waitpid(self.pid, 0)


def type_secret(terminal, rng, secret, may_be_given_up):
    """Types it as people do; whether it was entered."""
    data, way = secret.encode(), rng.randrange(8)
    if way == 0:
        terminal.send(data + ENTER)
        return True
    if way == 1:
        cut, wrong = rng.randrange(1, len(data)), rng.randint(1, 3)
        terminal.type(data[:cut] + b"xyz"[:wrong] + BACK * wrong + data[cut:], 0.003)
    elif way == 2:
        terminal.type(data[:-1] + b"?" + KILL + data, 0.003)
    elif way == 3:
        # Rubbed out to the last, and entered so.
        terminal.type(data + BACK * len(data), 0.002)
    else:
        terminal.type(data, 0.05 if way == 4 else 0.004)
    gives_up = may_be_given_up and rng.random() < 0.05
    terminal.send(INTERRUPT if gives_up else ENTER)
    return not gives_up


class Campaign:
    def __init__(self, house, seed):
        self.house, self.seed = house, seed
        self.secrets, self.commands, self.prompts = [], {"exit"}, collections.Counter()
        self.shown, self.lines, self.readable = set(), collections.Counter(), []
        self.lock = threading.Lock()
        # What was typed in each ordinary session: the shell, and its lines.
        self.ordinary = {}

    def look_live(self, over):
        """What is written while sessions run."""
        while not over.wait(LIVE_LOOK_S):
            self.search(path for path in self.house.kept() if "spool" in path.parts or path.suffix == ".err")

    def runs(self):
        """Every run of letters of every secret, but of those that a program has shown itself."""
        return {secret[at:at + RUN_BYTES].encode() for secret in list(self.secrets) if secret not in self.shown
                for at in range(len(secret) - RUN_BYTES + 1)}

    def search(self, paths):
        runs = self.runs()
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                # Space that is kept free is zeros.
                self.search_bytes(path, path.read_bytes().strip(b"\0"), runs)

    def secrets_session(self, number, count):
        rng = random.Random(f"{self.seed} secrets {number}")
        terminal = Terminal(self.house, f"env PS1='{PROMPT}' HISTFILE= LC_ALL=C.UTF-8 bash --norc --noprofile", rng)
        terminal.wait(PROMPT)
        names, weights = zip(*WEIGHTS.items())
        own = []
        while len(own) < count:
            name = rng.choices(names, weights)[0]
            command, asks, times = PROMPTS[name]
            command = command.replace("{port}", str(self.house.jump_port)).replace("{folder}", str(self.house.dir))
            self.commands.add(command)
            terminal.run(command)
            for _ in range(times):
                if terminal.wait(f"{asks}|{PROMPT}") == PROMPT.encode():
                    break
                time.sleep(ASKED_S)
                own.append("".join(rng.choice(LETTERS) for _ in range(rng.randint(*SECRET_CHARS))))
                self.secrets.append(own[-1])
                self.prompts[name] += 1
                if not type_secret(terminal, rng, own[-1], name in GIVEN_UP):
                    terminal.wait(PROMPT)
                    break
            else:
                terminal.wait(PROMPT)
        terminal.end()
        # A program that had not switched its echo off yet showed it itself.
        self.shown.update(secret for secret in own if any(secret[at:at + RUN_BYTES].encode() in terminal.all
                                                         for at in range(len(secret) - RUN_BYTES + 1)))

    def ordinary_session(self, pace, number, count):
        """Lines that are no secrets, at a shell."""
        rng = random.Random(f"{self.seed} {pace} {number}")
        shell = SHELLS[number % len(SHELLS)]
        name, typed = f"{list(SLOWEST_KEY_S).index(pace)}-{number}", [b""]
        terminal = Terminal(self.house, f"env NAME={name} PS1='{PROMPT}' HISTFILE= LC_ALL=C.UTF-8 {shell}", rng)
        slowest, lines = SLOWEST_KEY_S[pace], 0
        for _ in range(count):
            terminal.wait(PROMPT)
            terminal.quiet(SETTLES_S)
            terminal.seen = b""
            for keys in ordinary_line(rng):
                # fish asks for one more Enter after a search.
                if shell.startswith("fish") and keys == SEARCH:
                    continue
                terminal.type(keys, slowest)
                typed[-1] += keys
                if keys == ENTER:
                    typed.append(b"")
                    lines += 1
                    terminal.wait("\n")
                    terminal.wait(PROMPT)
                if keys in (UP, TAB, SEARCH, ENTER):
                    terminal.quiet(rng.choice((0, SETTLES_S)))
            terminal.seen = b""
            terminal.send(ENTER)
            typed.append(b"")
            terminal.wait("\n")
            lines += 1
        terminal.wait(PROMPT)
        terminal.end()
        lines += 1
        with self.lock:
            self.lines[pace] += lines
            self.ordinary[name] = (shell.split()[0], typed)

    def hold(self, what, total, each):
        """Runs sessions until so many were typed; afterwards every one is sealed. The recordings."""
        before = self.recordings()
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            ran = [pool.submit(what, number, min(each, total - at)) for number, at in enumerate(range(0, total, each))]
            for one in ran:
                one.result()
        wait_for("sealing", lambda: len(self.recordings() - before) == len(ran), SEAL_S)
        return sorted(self.recordings() - before)

    def recordings(self):
        return {path.with_suffix("") for path in self.house.state.glob("archive/**/*.pcr.sig") if path.name[0] != "."}

    def typed(self, recording):
        """What the recording says of typed lines: the texts of those that are readable, and how many are not."""
        player = self.house.bin.parent / "portcullis-player"
        said = subprocess.run([player, "text", recording, "--trust", self.house.state / "trust.toml", "--input", "--json"],
                              capture_output=True, timeout=LIMIT_S)
        if said.returncode not in (0, NOT_IN_LEDGER):
            raise SystemExit(f"{recording}: {said.stderr.decode()}")
        self.search_bytes(f"{recording}, as text", said.stdout, self.runs_at_end)
        remarks = [one for one in map(json.loads, said.stdout.splitlines()) if one["what"] == "remark"]
        # The prompt of a hidden line is told beside it.
        remarks = [one for one in remarks if not one["text"].startswith("typed behind")]
        clear = [one["text"] for one in remarks if one["kind"] == "input"]
        return clear, [one for one in remarks if one["kind"] == "hidden input"], remarks

    def lines_of(self, remarks):
        """What was typed in the ordinary session that these are of, and its shell."""
        asked = next(one["text"] for one in remarks if one["kind"] == "request" and "NAME=" in one["text"])
        return self.ordinary[re.search(r"NAME=(\S+)", asked)[1]]

    def search_bytes(self, name, data, runs):
        found = {data[at:at + RUN_BYTES] for at in range(0, len(data) - RUN_BYTES + 1, STRIDE)} & runs
        self.readable += [(str(name), run) for run in found]

    def check_secrets(self, recordings):
        self.runs_at_end = self.runs()
        self.search(self.house.kept())
        hidden = 0
        for recording in recordings:
            # Every chunk of it; frames that are none are skipped.
            whole = subprocess.run(["zstd", "-dcq", recording], capture_output=True, timeout=LIMIT_S)
            self.search_bytes(f"{recording}, decompressed", whole.stdout, self.runs_at_end)
            clear, not_shown, _ = self.typed(recording)
            hidden += len(not_shown)
            for text in clear:
                for line in filter(None, re.split("[\u240d\u2403]", text)):
                    if line not in self.commands and not any(line in secret for secret in self.shown):
                        self.readable.append((f"{recording}, typed", line.encode()))
        return hidden


def ordinary_line(rng):
    """The keys of one line, without its Enter; each may have to be waited for."""
    text = lambda: rng.choice(ORDINARY).replace("{w}", rng.choice(WORDS)).replace("{w}", rng.choice(WORDS)).replace("{n}", str(rng.randrange(9999))).encode()
    word = lambda: rng.choice(WORDS).encode()
    line = text()
    cut = rng.randrange(1, len(line))
    return rng.choice((
        [line], [line], [line], [line],
        [line[:cut] + b"xyz" + BACK * 3 + line[cut:]],
        [b"echo " + word() + b" " + b"w" * rng.randrange(60, 120)],
        [b"eho " + word() + HOME + b"\x1b[C" + b"c" + END],
        [b"echo " + word() + LEFT * 3 + b"in" + END + word()],
        [line + KILL + text()],
        [b"echo " + word() + WORD + word()],
        [b"true", ENTER, UP],
        [b"echo " + word(), ENTER, UP, b" " + word()],
        [b"cat /etc/hostn", TAB],
        [b"ls /usr/l", TAB, b" | wc"],
        [b"echo " + word(), ENTER, SEARCH, b"ech"],
        ["echo grüße 你好 ".encode() + word()],
    ))


def main():
    parser = argparse.ArgumentParser(prog="tests/campaigns/canaries", description=__doc__.split("\n\n")[0])
    parser.add_argument("count", type=int, help="secrets to type")
    parser.add_argument("--bin", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=20261122)
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="canaries.") as folder:
        house = House(args.bin, folder)
        (house.dir / "stars.py").write_text(STARS)
        house.dir.chmod(0o755)
        try:
            ended = run(house, args)
        finally:
            for child in house.children:
                child.terminate()
            for child in house.children:
                child.wait(LIMIT_S)
    print(f"{ended[0]} in {time.monotonic() - began:.0f} s, seed {args.seed}")
    sys.exit(ended[1])


def run(house, args):
    campaign, over = Campaign(house, args.seed), threading.Event()
    looker = threading.Thread(target=campaign.look_live, args=(over,))
    looker.start()
    try:
        recordings = campaign.hold(campaign.secrets_session, args.count, SECRETS_A_SESSION)
    finally:
        over.set()
        looker.join()
    hidden = campaign.check_secrets(recordings)
    for where, run_ in sorted(set(campaign.readable)):
        print(f"readable: {run_!r} in {where}")
    print("prompts: " + ", ".join(f"{name} {count}" for name, count in sorted(campaign.prompts.items())))
    lines = max(args.count * LINES_FOR_TEN // 10, len(SHELLS) * LINES_A_SESSION)
    hidden_lines = {pace: hidden_of(campaign, pace, lines) for pace in SLOWEST_KEY_S}
    told = "; ".join(f"{campaign.lines[pace]} ordinary lines {pace}, {wrongly} hidden" for pace, wrongly in hidden_lines.items())
    missed = ", goal missed" if hidden_lines[TYPED] > HIDDEN_MAX * campaign.lines[TYPED] else ""
    # Of fewer lines one alone would miss it.
    counts = campaign.lines[TYPED] >= 1 / HIDDEN_MAX
    bad = bool(campaign.readable) or hidden == 0 or (counts and bool(missed))
    return (f"canaries: {len(campaign.secrets)} secrets at {len(campaign.prompts)} prompts, {len(set(campaign.readable))} readable "
            f"({len(campaign.shown)} shown by the program itself); {told} (goal of the first {HIDDEN_MAX:.1%}{missed})"), int(bad)


def hidden_of(campaign, pace, lines):
    """Types so many ordinary lines; how many of them the gate held for hidden."""
    wrongly = 0
    for recording in campaign.hold(functools.partial(campaign.ordinary_session, pace), lines, LINES_A_SESSION):
        _, not_shown, remarks = campaign.typed(recording)
        lines = [one for one in remarks if one["kind"] in ("input", "hidden input")]
        for one in not_shown:
            shell, typed = campaign.lines_of(remarks)
            keys = next(iter(typed[lines.index(one):]), b"exit")
            wrongly += 1
            print(f"hidden, {pace}: {shell}, {keys}, at {one['at_ms']} ms of {recording.name}")
    return wrongly


if __name__ == "__main__":
    main()
