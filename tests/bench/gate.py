"""Benchmarks of the gate: through Portcullis (recorded), direct, and through `ssh -J` (unrecordable).

Everything runs on loopback, as the caller, with stock OpenSSH. Sides alternate inside each round; medians are
reported with their ratio to direct. CPU is utime+stime of the bastion's process until it is quiet again, sealing
included. Payload is random. Must run as root (sshd logs the caller in by certificate and by key).
"""
import argparse, datetime, http.client, json, os, pathlib, shutil, signal, socket, statistics, subprocess, sys, tempfile, threading, time

from tap import Tap

TICK = os.sysconf("SC_CLK_TCK")
LIMIT_S = 120


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, ready, limit=15):
    end = time.monotonic() + limit
    while not ready():
        if time.monotonic() > end:
            raise SystemExit(f"{what} is not ready after {limit} s")
        time.sleep(0.02)


class Rig:
    """A bastion, a target sshd and a second sshd to jump through, in one temporary folder."""

    def __init__(self, binaries, folder):
        self.dir, self.bin = pathlib.Path(folder), pathlib.Path(binaries) / "portcullis"
        self.children = []
        d = self.dir
        for key in ("id", "direct", "hk"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", d / key], check=True)
        self.ssh_port, self.target_port, self.jump_port, self.tap_port = (free_port() for _ in range(4))
        self.state = d / "state"
        self.run("init", "--state", self.state, "--listen", f"127.0.0.1:{self.ssh_port}")
        config = self.state / "config.toml"
        text = config.read_text()
        text = text.replace("# exempt_networks = []", 'exempt_networks = ["127.0.0.0/8"]')
        if "exempt_networks = [\"127" not in text:
            text = text.replace("[ssh]\n", '[ssh]\nexempt_networks = ["127.0.0.0/8"]\n', 1)
        # All sessions of a run are one person's.
        text = text.replace("[ssh]\n", "[ssh]\nsessions_per_identity = 100000\n", 1)
        config.write_text(self.configured(text))
        (d / "authorized").write_text((d / "direct.pub").read_text())
        os.makedirs("/run/sshd", exist_ok=True)
        for name, port in (("target", self.target_port), ("jump", self.jump_port)):
            (d / f"{name}.conf").write_text(self.sshd_configured(name,
                f"Port {port}\nListenAddress 127.0.0.1\nHostKey {d}/hk\nTrustedUserCAKeys {self.state}/keys/target_ca.pub\n"
                f"AuthorizedKeysFile {d}/authorized\nStrictModes no\nPermitRootLogin yes\nUsePAM no\nPidFile none\n"
                "PasswordAuthentication no\nMaxStartups 1000\nMaxSessions 1000\nSetEnv SHLVL=5\nPrintMotd no\n"
                "Subsystem sftp internal-sftp\n"))
            self.spawn(["/usr/sbin/sshd", "-D", "-f", d / f"{name}.conf", "-E", d / f"{name}.log"])
        self.launch()
        wait_for("serve", self.ready)
        for port in (self.target_port, self.jump_port):
            wait_for("sshd", lambda: self.open(port))
        api = ("--state", self.state)
        self.run(*api, "target", "add", "db1", "--addr", f"127.0.0.1:{self.target_port}", "--login", "root",
                 "--host-key", d / "hk.pub")
        self.run(*api, "identity", "add", "alice", "--key", d / "id.pub")
        self.grant("3h")
        host_ca = (self.state / "keys/host_ca.pub").read_text()
        (d / "known").write_text("".join(f"@cert-authority [127.0.0.1]:{port} {host_ca}" for port in (self.ssh_port, self.tap_port)))
        common = "HostName 127.0.0.1\n IdentitiesOnly yes\n BatchMode yes\n LogLevel ERROR\n"
        plain = f"{common} StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n IdentityFile {d}/direct\n User root\n"
        (d / "cfg").write_text(
            f"Host ours\n {common} Port {self.ssh_port}\n User root@db1\n IdentityFile {d}/id\n UserKnownHostsFile {d}/known\n"
            f"Host tapped\n {common} Port {self.tap_port}\n User root@db1\n IdentityFile {d}/id\n"
            f" UserKnownHostsFile {d}/known\n"
            f"Host direct\n {plain} Port {self.target_port}\n"
            f"Host hop\n {plain} Port {self.jump_port}\n"
            f"Host jump\n {plain} Port {self.target_port}\n ProxyJump hop\n")

    def configured(self, text):
        """What the campaigns change in the configuration."""
        return text

    def sshd_configured(self, name, text):
        """What the client matrix changes in the configuration of an sshd."""
        return text

    def launch(self, before=()):
        """Starts the server, perhaps under another program."""
        with open(self.dir / "serve.out", "wb") as out, open(self.dir / "serve.err", "ab") as err:
            self.server = self.spawn([*before, self.bin, "serve", "--config", self.state / "config.toml"],
                                     stdout=out, stderr=err)

    def ready(self):
        return b"ready" in (self.dir / "serve.out").read_bytes()

    def grant(self, how_long):
        self.run("--state", self.state, "grant", "issue", "--identity", "alice", "--for", how_long, "--reason", "bench",
                 "--public-key", self.dir / "id.pub", "root@db1")

    def run(self, *args):
        return subprocess.run([self.bin, *args], check=True, capture_output=True, timeout=LIMIT_S)

    def spawn(self, args, **kw):
        kw.setdefault("stdout", subprocess.DEVNULL)
        kw.setdefault("stderr", subprocess.DEVNULL)
        child = subprocess.Popen([str(a) for a in args], stdin=subprocess.DEVNULL, **kw)
        self.children.append(child)
        return child

    @staticmethod
    def open(port):
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    def ssh(self, host, *args, options=(), **kw):
        return subprocess.run(["ssh", "-F", self.dir / "cfg", *options, host, *args], timeout=LIMIT_S, **kw)

    def cpu(self):
        fields = open(f"/proc/{self.server.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def quiet_cpu(self):
        """CPU once the bastion has stopped working (100 ms without a tick), and no session is left."""
        last = self.cpu()
        while True:
            time.sleep(0.1)
            now = self.cpu()
            if now == last and not any(p.is_dir() for p in (self.state / "spool").iterdir()):
                return now
            last = now

    def pss(self):
        return next(int(line.split()[1]) for line in open(f"/proc/{self.server.pid}/smaps_rollup") if line.startswith("Pss:"))

    def close(self):
        for child in reversed(self.children):
            child.send_signal(signal.SIGTERM)
        for child in reversed(self.children):
            try:
                child.wait(40)
            except subprocess.TimeoutExpired:
                child.kill()


def bulk(rig, rounds, mib):
    payload = rig.dir / "payload"
    with open(payload, "wb") as f:
        for _ in range(mib):
            f.write(os.urandom(1 << 20))
    hosts = ("direct", "ours", "jump")
    times = {(way, host): [] for way in ("down", "up") for host in hosts}
    cpu = {"down": [], "up": []}
    for n in range(rounds):
        order = hosts[n % 3:] + hosts[:n % 3]
        for way in ("down", "up"):
            for host in order:
                before = rig.cpu()
                start = time.monotonic()
                if way == "down":
                    rig.ssh(host, f"cat {payload}", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
                else:
                    with open(payload, "rb") as source:
                        rig.ssh(host, "cat >/dev/null", stdin=source, check=True)
                times[way, host].append(time.monotonic() - start)
                if host == "ours":
                    cpu[way].append((rig.quiet_cpu() - before) * 1024 / mib)
        for done in (rig.state / "archive").glob("*.pcr"):
            done.unlink()
    for way in ("down", "up"):
        base = statistics.median(times[way, "direct"])
        for host in hosts:
            m = statistics.median(times[way, host])
            note = f"{statistics.median(cpu[way]):.1f} CPU-s/GiB" if host == "ours" else ""
            row(f"bulk {way}, {host}", f"{mib / m:.0f} MiB/s", f"{base / m:.2f} x direct", note)


CURVE = ("-o", "KexAlgorithms=curve25519-sha256")


def turns(hosts, n):
    """The hosts in the order of round `n`."""
    return hosts[n % len(hosts):] + hosts[:n % len(hosts)]


def logins(rig, hosts, rounds, options=CURVE):
    """Seconds that `ssh HOST true` took, by host, alternated."""
    times = {host: [] for host in hosts}
    for n in range(rounds):
        for host in turns(hosts, n):
            start = time.monotonic()
            rig.ssh(host, "true", options=options, stdin=subprocess.DEVNULL, check=True)
            times[host].append(time.monotonic() - start)
    return times


def setup(rig, rounds):
    hosts = ("direct", "ours", "jump")
    before = rig.cpu()
    times = logins(rig, hosts, rounds)
    each = (rig.quiet_cpu() - before) * 1000 / rounds
    base = statistics.median(times["direct"])
    for host in hosts:
        m = statistics.median(times[host])
        row(f"ssh true, {host}", f"{m * 1000:.1f} ms", f"{m / base:.2f} x direct", f"{each:.1f} CPU-ms each" if host == "ours" else "")


def echo(rig, keys):
    """One key's way there and back: echoed by the target's terminal alone, and by bash at its prompt, as a person types."""
    echo_by(rig, keys, "by the terminal", "stty -icanon; echo go; exec cat >/dev/null")
    echo_by(rig, keys, "at a prompt", "echo go; exec bash --norc --noprofile -i")


def echo_by(rig, keys, how, command):
    hosts = ("direct", "ours", "jump")
    shells = typists(rig, hosts, command)
    times = strokes(shells, hosts, keys)
    leave(shells)
    base = statistics.median(times["direct"])
    for host in hosts:
        m = statistics.median(times[host])
        p99 = sorted(times[host])[int(keys * 0.99) - 1]
        row(f"key echo {how}, {host}", f"{m:.3f} ms", f"{m / base:.2f} x direct", f"p99 {p99:.2f} ms")


RULES = """
@id("bench-commands-look-first") @notice("look at it once more")
permit (principal, action == Action::"command", resource) when { context.labels.contains("destructive") };
@id("bench-commands-no-traces-removed")
forbid (principal, action == Action::"command", resource) when { context.labels.contains("cover-up") };
@id("bench-commands-nothing-hidden") @hidden_command("end")
permit (principal, action == Action::"shell", resource);
"""


class Ruled(Rig):
    """The same with rules: each Enter is held until they were asked."""

    def launch(self, before=()):
        (self.state / "policies/bench.cedar").write_text(self.rules())
        super().launch(before)

    def rules(self):
        return RULES


def ruled(rig, keys):
    """What rules about commands add to a key's echo at a prompt: a bastion without and one with them, alternated."""
    folder = rig.dir / "ruled"
    folder.mkdir()
    other = Ruled(rig.bin.parent, folder)
    try:
        command = "echo go; exec bash --norc --noprofile -i"
        shells = {"no rules": typists(rig, ["ours"], command)["ours"], "rules": typists(other, ["ours"], command)["ours"]}
        times = strokes(shells, list(shells), keys)
        leave(shells)
        medians = {name: statistics.median(of) for name, of in times.items()}
        for name, median in medians.items():
            more = f"{(median - medians['no rules']) * 1000:+.0f} us" if name == "rules" else ""
            row(f"key echo at a prompt, {name}", f"{median:.3f} ms", more, f"p99 {sorted(times[name])[int(keys * 0.99) - 1]:.2f} ms")
        floods({"no rules": rig, "rules": other})
    finally:
        other.close()


FLOOD_MIB = 64
FLOOD_ROUNDS = 5


def floods(rigs):
    """CPU of the bastions while a terminal scrolls by, sealing included, alternated."""
    line = b"-rw-r--r-- 1 root root 4096 Nov 23 02:00 \x1b[0m\x1b[01;34msome-file-or-other.txt\x1b[0m\n"
    costs = {name: [] for name in rigs}
    for rig in rigs.values():
        (rig.dir / "listing").write_bytes(line * ((FLOOD_MIB << 20) // len(line)))
    for n in range(FLOOD_ROUNDS):
        for name in turns(tuple(rigs), n):
            rig = rigs[name]
            before = rig.quiet_cpu()
            rig.ssh("ours", f"cat {rig.dir}/listing", options=("-tt",), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
            costs[name].append((rig.quiet_cpu() - before) * 1000 / FLOOD_MIB)
    medians = {name: statistics.median(of) for name, of in costs.items()}
    for name, median in medians.items():
        more = f"{median - medians['no rules']:+.1f} ms" if name == "rules" else ""
        row(f"a flood on a terminal, {name}", f"{median:.1f} CPU-ms/MiB", more, f"worst {max(costs[name]):.1f}")


def typists(rig, hosts, command):
    """A terminal session on each host that is ready for keys."""
    shells = {}
    for host in hosts:
        shell = subprocess.Popen(["ssh", "-F", rig.dir / "cfg", "-tt", host, command],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
        seen = b""
        while b"go\r\n" not in seen:
            more = shell.stdout.read(100)
            if not more:
                raise SystemExit(f"no terminal on {host}")
            seen += more
        shells[host] = shell
    time.sleep(0.5)
    return shells


def strokes(shells, hosts, keys):
    """Milliseconds that each key took to come back, by host, alternated."""
    times = {host: [] for host in hosts}
    for n in range(keys):
        for host in turns(hosts, n):
            if n % 50 == 0:
                clear_line(shells[host])
            start = time.perf_counter()
            shells[host].stdin.write(b"x")
            shells[host].stdout.read(1)
            times[host].append((time.perf_counter() - start) * 1000)
            time.sleep(0.003)
    return times


def leave(shells):
    for shell in shells.values():
        shell.stdin.close()
        shell.terminate()
        shell.wait(LIMIT_S)


def clear_line(shell):
    """A line that wraps prints more than the key: ^U, and everything read until 50 ms of silence."""
    shell.stdin.write(b"\x15")
    os.set_blocking(shell.stdout.fileno(), False)
    quiet = time.monotonic() + 0.05
    while time.monotonic() < quiet:
        if shell.stdout.read(4096):
            quiet = time.monotonic() + 0.05
        time.sleep(0.005)
    os.set_blocking(shell.stdout.fileno(), True)


def memory(rig, sessions):
    rig.quiet_cpu()
    base = rig.pss()
    row("process at rest", f"{base / 1024:.1f} MiB", "", "PSS")
    clients = [subprocess.Popen(["ssh", "-F", rig.dir / "cfg", "-tt", "ours"], stdin=subprocess.PIPE,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(sessions)]
    wait_for("sessions", lambda: sum(p.is_dir() for p in (rig.state / "spool").iterdir()) >= sessions, 60)
    time.sleep(3)
    full = rig.pss()
    row(f"idle interactive session, {sessions} held", f"{(full - base) / sessions:.0f} KiB", "", "PSS")
    cpu = rig.cpu()
    time.sleep(5)
    row(f"idle CPU, {sessions} held", f"{(rig.cpu() - cpu) / 5 * 100:.2f} %", "", "")
    revoke(rig, clients)
    for client in clients:
        client.stdin.close()
        client.terminate()
        client.wait(LIMIT_S)
    rig.quiet_cpu()
    for _ in range(30):
        if rig.pss() <= base * 1.2:
            break
        time.sleep(1)
    row("memory after they ended", f"{rig.pss() / 1024:.1f} MiB", f"{rig.pss() / base:.2f} x base", "")


def revoke(rig, clients):
    """Wall time of `portcullis revoke --all` (which returns once every session is cut), process start included."""
    stopped = clients[0]
    stopped.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    done = rig.run("--state", rig.state, "revoke", "--all", "--reason", "bench")
    took = (time.monotonic() - start) * 1000
    stopped.send_signal(signal.SIGCONT)
    row(f"revoke --all of {len(clients)}, one stopped", f"{took:.0f} ms", "", done.stderr.decode().strip()[:60])
    rig.grant("3h")


# Prints 2 KiB ten times a second, so that the tap sees payload until the cut.
TALKS = """exec perl -e '$|=1; while(1){print "x" x 2048; select(undef,undef,undef,0.1)}'"""


def talk(rig, sessions):
    """Sessions through the tap, all printing; the first one does not read."""
    tap = Tap(rig.tap_port, rig.ssh_port)
    return tap, talk_through(rig, tap, sessions)


def talk_through(rig, tap, sessions):
    clients = []
    for _ in range(sessions):
        clients.append(subprocess.Popen(["ssh", "-F", rig.dir / "cfg", "tapped", TALKS], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        if len(clients) % 20 == 0:
            wait_for("sessions", lambda: sum(1 for at in tap.last_payload if at) >= len(clients) - 5, 60)
    wait_for("sessions", lambda: sum(1 for at in tap.last_payload if at) >= sessions, 60)
    clients[0].send_signal(signal.SIGSTOP)
    time.sleep(1)
    return clients


def over(rig, clients):
    clients[0].send_signal(signal.SIGCONT)
    for client in clients:
        client.wait(LIMIT_S)
    rig.quiet_cpu()


def lateness(tap, moment):
    """How long after the moment each session still got payload, in ms: p99, the worst, and how many sessions."""
    after = sorted(max(0.0, at - moment) * 1000 for at in tap.last_payload if at)
    return after[max(0, int(len(after) * 0.99) - 1)], after[-1], len(after)


def late(name, tap, moment):
    p99, worst, sessions = lateness(tap, moment)
    row(name, f"p99 {p99:.0f} ms", f"worst {worst:.0f} ms", f"{sessions} sessions by a tap, one not reading")


class Socket(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def revoked(rig, sessions):
    """Sessions that talk, all revoked by one call of the API: the tap, and when that was asked."""
    tap, clients = talk(rig, sessions)
    api = Socket(rig.state / "api.sock")
    began = time.monotonic()
    api.request("POST", "/v1/revoke", json.dumps({"what": "all", "reason": "bench"}), {"Content-Type": "application/json"})
    answer = api.getresponse()
    if answer.status != 200:
        raise SystemExit(f"revoke: {answer.status} {answer.read()}")
    over(rig, clients)
    return tap, began


def cut(rig, sessions):
    """From the order to the last payload byte that left the bastion: by a revocation, and by the end of the grant."""
    tap, began = revoked(rig, sessions)
    late("revoke to the last payload byte", tap, began)
    # Long enough for all of them to log in.
    rig.grant(f"{max(15, sessions // 4)}s")
    grants = json.loads(rig.run("--state", rig.state, "grants", "--json").stdout)["grants"]
    ends = [datetime.datetime.fromisoformat(grant["until"].replace("Z", "+00:00")) for grant in grants if grant["state"] == "live"]
    until = max(ends).timestamp()
    tap.last_payload.clear()
    clients = talk_through(rig, tap, sessions)
    over(rig, clients)
    late("end of the grant to the last payload byte", tap, until - time.time() + time.monotonic())
    rig.grant("3h")


def overrun(rig, rounds):
    """The last line that the target printed and the client got, by the one clock both have; grants end on a full second."""
    late = []
    for _ in range(rounds):
        rig.grant("2s")
        got = []
        client = subprocess.Popen(["ssh", "-F", rig.dir / "cfg", "ours", "while date +%s.%N; do :; done"], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        for line in client.stdout:
            got.append(line)
        client.wait(LIMIT_S)
        numbers = [float(line) for line in got if line[:1].isdigit() and line.count(b".") == 1]
        if numbers:
            late.append((numbers[-1] % 1.0 if numbers[-1] % 1.0 < 0.5 else numbers[-1] % 1.0 - 1.0) * 1000)
    rig.grant("3h")
    row("last line printed, against the full second of `until`", f"{max(late):+.0f} ms worst", "", f"{len(late)} cuts")


def row(*cells):
    print("| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(cells, (52, 16, 14, 40))) + " |", flush=True)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--bin", required=True)
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--mib", type=int, default=256)
    args.add_argument("--sessions", type=int, default=50)
    args.add_argument("--cut-sessions", type=int, default=200)
    args.add_argument("--only", choices=("memory", "setup", "echo", "rules", "bulk", "overrun", "cut"), action="append")
    args = args.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("run it as root: the target sshd logs root in")
    for tool in ("ssh", "ssh-keygen", "/usr/sbin/sshd"):
        if not shutil.which(tool):
            raise SystemExit(f"{tool} is missing: apt-get install openssh-client openssh-server")
    threading.stack_size(256 * 1024)
    with tempfile.TemporaryDirectory(prefix="pcbench") as folder:
        rig = Rig(args.bin, folder)
        try:
            print(f"load average at the start: {os.getloadavg()[0]:.1f}", flush=True)
            row("what", "median", "ratio", "more")
            # Memory first: a heap that bulk has stretched hides what a session costs.
            parts = {
                "memory": lambda: memory(rig, args.sessions),
                "setup": lambda: setup(rig, max(args.rounds * 4, 20)),
                "echo": lambda: echo(rig, 600),
                "rules": lambda: ruled(rig, 2000),
                "bulk": lambda: bulk(rig, args.rounds, args.mib),
                "overrun": lambda: overrun(rig, args.rounds),
                "cut": lambda: cut(rig, args.cut_sessions),
            }
            for part in args.only or parts:
                parts[part]()
        finally:
            rig.close()


if __name__ == "__main__":
    main()
