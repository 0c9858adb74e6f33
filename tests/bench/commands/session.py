"""One terminal session: a program on a pseudo-terminal, keys as a person types them, and every event with its time.

The capture is taken where a recorder stands. With a latency, keys reach the program half of it after they are recorded,
and output is recorded half of it after the program wrote it.
"""
import collections, fcntl, json, os, pathlib, pty, select, signal, struct, termios, time

# Without output for so long, and with nothing running, the person goes on, in seconds.
QUIET_S = 0.09
# Longest wait for quiet, in seconds.
WAIT_MAX_S = 4.0
# Longest wait for a program to start or to end, and how often it is told to end, in seconds and times.
TILL_MAX_S, TELLS_MAX = 3.0, 3
# Longest session, in seconds.
SESSION_MAX_S = 180.0
# Most that one session may write, in bytes.
OUTPUT_MAX = 4 << 20


class Session:
    def __init__(self, argv, env, cwd, size, latency_s=0.0, split=False, rng=None, nonce=None, told=""):
        # What the programs at the target have in their environment, and no others.
        self.mark = f"TOLD={told}".encode()
        self.latency, self.split, self.rng = latency_s / 2, split, rng
        self.events, self.due = [["n", 0, nonce]] if nonce else [], collections.deque()
        self.began = self.heard = time.monotonic()
        self.late = collections.deque()
        self.watched = set()
        self.bracketed, self.tail, self.total, self.over = False, b"", 0, False
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
                os.chdir(cwd)
                os.execvpe(argv[0], argv, env)
            finally:
                os._exit(127)
        self.size(size)

    def ms(self):
        return int((time.monotonic() - self.began) * 1000)

    def size(self, size):
        self.events.append(["r", self.ms(), size[0], size[1]])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def turn(self, until):
        """Moves bytes until then, or until something came."""
        now = time.monotonic()
        while self.due and self.due[0][0] <= now:
            try:
                os.write(self.fd, self.due.popleft()[1])
            except OSError:
                self.over = True
        while self.late and self.late[0][0] <= now:
            self.record(self.late.popleft()[1])
        next_at = min([until] + [queue[0][0] for queue in (self.due, self.late) if queue])
        ready, _, _ = select.select([self.fd] if not self.over else [], [], [], max(0.0, min(next_at - now, 0.05)))
        if not ready:
            return
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        if not data or self.total > OUTPUT_MAX:
            self.over = True
            return
        self.total += len(data)
        if self.latency:
            self.late.append((time.monotonic() + self.latency, data))
        else:
            self.record(data)

    def record(self, data):
        self.heard = time.monotonic()
        for at in range(0, len(data), 1 if self.split else len(data)):
            piece = data[at:at + 1] if self.split else data
            self.events.append(["o", self.ms(), piece.hex()])
        # Whether the program wants pastes in brackets, as a terminal knows it.
        seen = self.tail + data
        on, off = seen.rfind(b"\x1b[?2004h"), seen.rfind(b"\x1b[?2004l")
        if on != off:
            self.bracketed = on > off
        self.tail = seen[-8:]

    def pause(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.over:
            self.turn(until)

    def begin(self):
        """Waits for the first prompt; some programs show none."""
        until = time.monotonic() + WAIT_MAX_S
        while time.monotonic() < until and not self.over and not self.total:
            self.turn(until)
        self.quiet(0.5)

    def quiet(self, seconds=QUIET_S):
        """Waits until the program has been quiet for a while."""
        start = time.monotonic()
        wait = seconds + 2 * self.latency
        while not self.over and time.monotonic() - start < WAIT_MAX_S:
            self.turn(self.heard + wait)
            if time.monotonic() - self.heard >= wait and not self.due and not self.late:
                if not self.busy():
                    return
                self.turn(time.monotonic() + 0.02)

    def busy(self):
        """Whether anything below has the processor or waits for it. On a busy machine silence alone says little."""
        ask = [self.pid, *self.watched]
        while ask:
            pid = ask.pop()
            try:
                state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                ask += map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            except (OSError, IndexError):
                continue
            if state in "RDt":
                return True
        return False

    def runs(self, name):
        """The number of a program of this name at the target, wherever it hangs: in tmux, behind ssh. A person sees whether it runs."""
        for place in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if (place / "comm").read_text().strip() == name and self.mark in (place / "environ").read_bytes().split(b"\0"):
                    return int(place.name)
            except OSError:
                continue
        return None

    def till(self, name, runs):
        """Waits until it runs, or until it does not."""
        until = time.monotonic() + TILL_MAX_S
        while time.monotonic() < until and not self.over:
            found = self.runs(name)
            if found and runs:
                self.watched.add(found)
            if bool(found) == runs:
                return True
            self.pause(0.03)
        return False

    def leave(self, name, steps):
        """Tells a program to end, again if it did not."""
        for _ in range(TELLS_MAX):
            self.play(steps)
            if self.till(name, False):
                return

    def send(self, data):
        self.events.append(["i", self.ms(), data.hex()])
        # Quiet is what follows the last key as well.
        self.heard = time.monotonic()
        self.due.append((self.heard + self.latency, data))
        self.turn(time.monotonic())

    def type(self, text):
        """Key by key, now and then a few at once."""
        data = text.encode()
        at = 0
        while at < len(data):
            count = self.rng.choice((1, 1, 1, 2, 3))
            self.send(data[at:at + count])
            at += count
            self.pause(self.rng.choice((0.001, 0.002, 0.004)))

    def paste(self, text):
        data = text.encode()
        self.send(b"\x1b[200~" + data.replace(b"\n", b"\r") + b"\x1b[201~" if self.bracketed else data.replace(b"\n", b"\r"))

    def play(self, steps):
        for kind, *what in steps:
            if self.over or time.monotonic() - self.began > SESSION_MAX_S:
                return
            match kind:
                case "type": self.type(what[0])
                case "key": self.send(what[0])
                case "paste": self.paste(what[0])
                case "size": self.size(what[0]); self.pause(0.03)
                case "wait": self.quiet(*what)
                case "pause": self.pause(what[0])
                case "till": self.till(what[0], True)
                case "leave": self.leave(*what)

    def close(self, path):
        self.quiet()
        for number in (signal.SIGHUP, signal.SIGKILL):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                break
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                done, _ = os.waitpid(self.pid, os.WNOHANG)
                if done:
                    break
                self.pause(0.02)
            else:
                continue
            break
        os.close(self.fd)
        with open(path, "w") as file:
            file.writelines(json.dumps(event) + "\n" for event in self.events)
