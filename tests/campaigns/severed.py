"""Sessions whose client or target is killed in the midst of what they do: none may hang, and nothing of them may stay.

What they do and how they are severed is drawn for each. A target is its sshd's process for this connection: killed, it
closes its socket at once; stopped, it never answers again, and the gate has to be done without it.
"""
import argparse, collections, concurrent.futures, http.client, os, pathlib, random, shutil, signal, socket, subprocess, sys, tempfile
import threading, time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))
from gate import Socket, free_port, wait_for  # noqa: E402
from soak import GROWTH_MAX, settled  # noqa: E402
from ssh import House  # noqa: E402

AT_ONCE = 16
BATCH = 50
# Sessions before memory, tasks and descriptors are looked at first.
WARM_UP = 200
# Until a client has ended whose target is gone, until the gate is done with a session, and until it is at rest.
LIMIT_S, SEAL_S, REST_S = 20, 30, 60
# From its first output to the cut.
CUT_S = (0.0, 0.4)
SAYS = "echo on $PPID"
BLOCK = 1 << 16
HOSTS = ("ours", "inner")


class Severed(House):
    def __init__(self, binaries, folder, memory):
        super().__init__(binaries, folder, memory)
        self.echo = socket.create_server(("127.0.0.1", 0), backlog=256)
        threading.Thread(target=self.echoes, daemon=True).start()
        with open(self.dir / "sparse", "wb") as sparse:
            sparse.truncate(1 << 30)

    def grant(self, how_long):
        self.run("--state", self.state, "grant", "issue", "--identity", "alice", "--for", how_long, "--reason", "severed",
                 "--public-key", self.dir / "id.pub", "--allow", "shell,exec,sftp,forward", "root@db1")

    def echoes(self):
        while True:
            stream, _ = self.echo.accept()
            threading.Thread(target=pour, args=(stream, stream), daemon=True).start()

    def tasks(self):
        """Of the server's runtime."""
        api = Socket(self.state / "api.sock")
        api.request("GET", "/metrics")
        text = api.getresponse().read().decode()
        api.close()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("portcullis_tasks "))

    def at_target(self):
        """Processes of the target's sshd that are not its listener."""
        said = subprocess.run(["pgrep", "-P", str(self.target().pid)], capture_output=True, text=True).stdout
        return [int(pid) for pid in said.split()]

    def target(self):
        return self.children[0]


def pour(source, sink):
    """Until either ends."""
    try:
        while data := source.recv(BLOCK):
            sink.sendall(data)
    except OSError:
        pass
    source.close()


class One:
    """One session: its client, what else it needs, and the target's process once it has said it."""

    def __init__(self, rig, n, rng):
        self.rig, self.n, self.rng, self.others, self.reading, self.target = rig, n, rng, [], [], None
        self.forwards = False
        self.host = rng.choice(HOSTS)

    def start(self, *args, stdin=subprocess.PIPE, program="ssh"):
        command = [program, "-F", str(self.rig.dir / "cfg"), *map(str, args)]
        return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)

    def says(self, client):
        """Waits until the target's side runs."""
        line = b""
        while not line.endswith(b"\n"):
            byte = client.stdout.read(1)
            if not byte:
                raise RuntimeError(f"session {self.n} never began")
            line += byte
        self.target = int(line.split()[1])

    def read(self, client):
        """Everything that comes, in a thread of its own."""
        def drain():
            while client.stdout.read(BLOCK):
                pass
        if client not in self.reading:
            self.reading.append(client)
            threading.Thread(target=drain, daemon=True).start()

    # What it does. Gives the client that is cut, once it is under way.

    def terminal(self):
        client = self.start("-tt", self.host, f"{SAYS}; exec cat")
        self.says(client)
        self.read(client)
        return client

    def download(self):
        client = self.start(self.host, f"{SAYS}; exec cat /dev/zero")
        self.says(client)
        self.read(client)
        return client

    def unread(self):
        client = self.start(self.host, f"{SAYS}; exec cat /dev/zero")
        self.says(client)
        return client

    def upload(self):
        with open("/dev/zero", "rb") as zeros:
            client = self.start(self.host, f"{SAYS}; exec cat >/dev/null", stdin=zeros)
        self.says(client)
        return client

    def both_ways(self):
        with open("/dev/zero", "rb") as zeros:
            client = self.start(self.host, f"{SAYS}; exec cat", stdin=zeros)
        self.says(client)
        self.read(client)
        return client

    def forward(self):
        port = free_port()
        client = self.start("-L", f"{port}:127.0.0.1:{self.rig.echo.getsockname()[1]}", self.host, f"{SAYS}; exec cat")
        self.says(client)
        stream = socket.create_connection(("127.0.0.1", port), LIMIT_S)
        self.forwards = True

        def send():
            try:
                while True:
                    stream.sendall(bytes(BLOCK))
            except OSError:
                pass
        threading.Thread(target=send, daemon=True).start()
        threading.Thread(target=pour, args=(stream, open_null()), daemon=True).start()
        return client

    def master(self):
        control = self.rig.dir / f"m{self.n}"
        client = self.start("-MNS", control, self.host)
        end = time.monotonic() + LIMIT_S
        while not control.exists():
            if time.monotonic() > end or client.poll() is not None:
                raise RuntimeError(f"session {self.n} has no master")
            time.sleep(0.01)
        for work in ("exec cat /dev/zero", "exec cat", "exec cat /dev/zero"):
            channel = self.start("-S", control, self.host, f"{SAYS}; {work}")
            self.says(channel)
            self.read(channel)
            self.others.append(channel)
        return client

    def copy(self):
        client = self.start("-q", self.rig.dir / "sparse", f"{self.host}:/dev/null", program="scp")
        time.sleep(0.2)
        return client

    def login(self):
        client = self.start(self.host, "true", stdin=subprocess.DEVNULL)
        time.sleep(self.rng.uniform(0, 0.15))
        return client

    # How it is severed.

    def killed_client(self, client):
        client.kill()

    def stopped_client(self, client):
        client.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        client.kill()

    def killed_target(self, client):
        os.kill(self.target, signal.SIGKILL)
        # A client ends when it has been rid of all that came.
        self.read(client)
        # Each channel has a connection of its own to the target: with others open it goes on until its user ends it.
        if self.others or self.forwards:
            time.sleep(0.1)
            client.terminate()

    def killed_both(self, client):
        os.kill(self.target, signal.SIGKILL)
        client.kill()

    def stopped_target(self, client):
        os.kill(self.target, signal.SIGSTOP)
        client.kill()

    def run(self, doing, how):
        """Whether it surely was a session, or why it failed; and the target's process if that was stopped."""
        clients = []
        try:
            client = doing(self)
            clients = [client, *self.others]
            time.sleep(self.rng.uniform(*CUT_S))
            how(self, client)
            for each in clients:
                each.wait(LIMIT_S)
            return self.target is not None, None
        except subprocess.TimeoutExpired:
            return self.target is not None, f"{doing.__name__}, {how.__name__}, {self.host}: a client hangs"
        except (RuntimeError, OSError) as wrong:
            return self.target is not None, f"{doing.__name__}, {how.__name__}, {self.host}: {wrong}"
        finally:
            for each in clients:
                each.kill()
                each.wait()


def open_null():
    """A socket that swallows."""
    one, other = socket.socketpair()

    def swallow():
        while other.recv(BLOCK):
            pass
    threading.Thread(target=swallow, daemon=True).start()
    return one


ANYHOW = (One.killed_client, One.stopped_client)
WITH_TARGET = (*ANYHOW, One.killed_target, One.killed_both, One.stopped_target)
DOINGS = {One.terminal: WITH_TARGET, One.download: WITH_TARGET, One.unread: WITH_TARGET, One.upload: WITH_TARGET,
          One.both_ways: WITH_TARGET, One.forward: WITH_TARGET, One.master: WITH_TARGET, One.copy: ANYHOW, One.login: ANYHOW}


class Campaign:
    def __init__(self, rig, args):
        self.rig, self.count, self.rng = rig, args.count, random.Random(args.seed)
        # What was not as it must be, told as it is found.
        self.wrong, self.recordings, self.hows = [], 0, collections.Counter()

    def run(self):
        """Every session; what was left after the warm-up, and at the end."""
        began, done, after = time.monotonic(), 0, None
        while done < self.count:
            if after is None and done >= min(WARM_UP, self.count // 2):
                after = self.rest()
            now = min(BATCH, self.count - done)
            self.batch(done, now)
            done += now
            print(f"{done} sessions, {time.monotonic() - began:.0f} s, {len(self.wrong)} wrong", flush=True)
        return after, self.rest()

    def mark(self, why):
        self.wrong.append(why)
        print(f"WRONG {why}", flush=True)

    def batch(self, first, count):
        plans = []
        for n in range(first, first + count):
            doing = self.rng.choice(list(DOINGS))
            how = self.rng.choice(DOINGS[doing])
            self.hows[how.__name__] += 1
            plans.append((One(self.rig, n, random.Random(self.rng.random())), doing, how))
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            results = list(pool.map(lambda plan: plan[0].run(*plan[1:]), plans))
        for _, why in results:
            if why:
                self.mark(why)
        self.sealed(sum(sure for sure, _ in results), sum(not sure for sure, _ in results))
        # Those that were stopped are let go only now: the gate had to end without them.
        for one, _, how in plans:
            if how is One.stopped_target and one.target:
                os.kill(one.target, signal.SIGKILL)
        try:
            wait_for("the target's end of every connection", lambda: not self.rig.at_target(), SEAL_S)
        except SystemExit as late:
            self.mark(f"{late}: {self.rig.at_target()}")
        # What is left of them must not be the next batch's.
        for pid in self.rig.at_target():
            os.kill(pid, signal.SIGKILL)

    def sealed(self, sure, perhaps):
        """Every session is over, has its recording, and that verifies."""
        spool = self.rig.state / "spool"
        try:
            wait_for("the end of every session", lambda: not any(p.is_dir() for p in spool.iterdir()), SEAL_S)
        except SystemExit as late:
            for left in [p.name for p in spool.iterdir() if p.is_dir()]:
                self.mark(f"{late}: {left}: {self.said_of(left)}")
        files = sorted((self.rig.state / "archive").glob("**/*.pcr"))
        if not sure <= len(files) <= sure + perhaps:
            self.mark(f"{len(files)} recordings of {sure} sessions and at most {perhaps} more")
        for file in files:
            said = subprocess.run([self.rig.bin, "verify", file, "--trust", self.rig.state / "trust.toml"], capture_output=True, timeout=60)
            if said.returncode != 0 or b"SEALED" not in said.stdout:
                self.mark(f"{file.name}: {said.stdout.decode()[:200]} {self.said_of(file.stem)}")
            file.unlink()
        self.recordings += len(files)

    def said_of(self, session):
        """What the server's log says of it."""
        log = (self.rig.dir / "serve.err").read_text(errors="replace")
        return " / ".join(line for line in log.splitlines() if session in line)

    def rest(self):
        """Memory in KiB, descriptors, tasks and threads once the server has settled; all connections time out by then."""
        end = time.monotonic() + REST_S
        before = None
        while True:
            memory, descriptors = settled(self.rig)
            now = (descriptors, self.rig.tasks(), len(os.listdir(f"/proc/{self.rig.server.pid}/task")))
            if now == before or time.monotonic() > end:
                return memory, *now
            before = now


def main():
    args = argparse.ArgumentParser(prog="tests/campaigns/severed", description=__doc__)
    args.add_argument("count", type=int, help="how many sessions")
    args.add_argument("--bin", required=True, help="folder of portcullis and portcullis-player")
    args.add_argument("--seed", type=int, default=int(time.time()))
    args = args.parse_args()
    if args.count < 2 * BATCH:
        raise SystemExit(f"at least {2 * BATCH}: the first are the warm-up")
    if os.geteuid() != 0:
        raise SystemExit("run it as root: the target sshd logs root in")
    for tool in ("ssh", "scp", "/usr/sbin/sshd", "pgrep"):
        if not shutil.which(tool):
            raise SystemExit(f"{tool} is missing: apt-get install openssh-client openssh-server procps")
    with tempfile.TemporaryDirectory(prefix="pcsevered") as folder, tempfile.TemporaryDirectory(prefix="pcsevered") as memory:
        rig = Severed(args.bin, folder, memory)
        try:
            campaign = Campaign(rig, args)
            began = time.monotonic()
            after, now = campaign.run()
        finally:
            rig.close()
    for how, times in sorted(campaign.hows.items()):
        print(f"{times:6}  {how.replace('_', ' ')}")
    for name, one, other in zip(("descriptors", "tasks", "threads"), after[1:], now[1:]):
        print(f"{name}: {one} after the warm-up, {other} at the end")
        if other > one:
            campaign.mark(f"{other - one} {name} more than after the warm-up")
    growth = now[0] / after[0]
    print(f"memory: {after[0] / 1024:.1f} MiB after the warm-up, {growth:.3f} of it at the end (at most {GROWTH_MAX})")
    if growth > GROWTH_MAX:
        campaign.mark("memory grew")
    print(f"{args.count} severed sessions in {time.monotonic() - began:.0f} s, {campaign.recordings} recordings SEALED, "
          f"{len(campaign.wrong)} wrong (seed {args.seed})")
    raise SystemExit(1 if campaign.wrong else 0)


if __name__ == "__main__":
    main()
