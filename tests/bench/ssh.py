"""The figures of everything that speaks SSH through us, each beside its goal, in one table.

Usage: tests/bench/run ssh [--only PART] [--quick] [--rounds N] [--mib N] [--sessions N]

Sides alternate inside each round and medians are reported: `direct` is the client at the target's sshd, `through sshd` is
`ssh -J` through a second sshd (which records nothing), `-J` is `ssh -J` through us. All of it on loopback, so client, bastion
and target share the machine: read ratios and CPU first. CPU is the bastion's user and system time until it is quiet
again, sealing included. Payload is random and lies in memory. Must run as root.
"""
import argparse, concurrent.futures, contextlib, fcntl, os, pathlib, pty, signal, socket, statistics, struct, subprocess, tempfile, termios, threading, time

from gate import CURVE, LIMIT_S, TICK, Rig, free_port, leave, logins, strokes, turns, typists, wait_for

GCM = ("-c", "aes128-gcm@openssh.com")
# Connections of one rate, and how many of them at a time.
RATE_CONNECTIONS, RATE_AT_ONCE = 48, 8
# Memory of client and target for each session that is held, in MiB.
HELD_MIB = 6
# Writes 200 kB every 10 ms.
PACED = """exec perl -e '$|=1; $b="x" x 200000; while(1){print $b; select(undef,undef,undef,0.01)}'"""
UNBOUNDED = "exec cat /dev/zero"


class House(Rig):
    """The gate's rig, with `ssh -J` through us beside it and the payload in memory."""

    def __init__(self, binaries, folder, memory):
        # Forwards to this port are recorded as digests.
        self.digested = free_port()
        super().__init__(binaries, folder)
        self.memory = pathlib.Path(memory)
        host_ca = (self.state / "keys/host_ca.pub").read_text()
        with open(self.dir / "known", "a") as known:
            known.write(f"@cert-authority db1 {host_ca}")
        common = f"IdentitiesOnly yes\n BatchMode yes\n LogLevel ERROR\n UserKnownHostsFile {self.dir}/known\n IdentityFile {self.dir}/id\n"
        with open(self.dir / "cfg", "a") as config:
            config.write(f"Host bastion\n {common} HostName 127.0.0.1\n Port {self.ssh_port}\n User root\n"
                         f"Host inner\n {common} HostName db1\n User root\n ProxyJump bastion\n")

    def launch(self, before=()):
        (self.state / "policies/digest.cedar").write_text(
            '@id("digested") @record("digest") permit (principal, action == Action::"forward", resource) '
            f"when {{ context.forward.port == {self.digested} }};\n")
        super().launch(before)

    def grant(self, how_long):
        self.run("--state", self.state, "grant", "issue", "--identity", "alice", "--for", how_long, "--reason", "bench",
                 "--allow", "shell,exec,sftp,forward", "--public-key", self.dir / "id.pub", "root@db1")

    def payload(self, kind, mib):
        """A file of random bytes, or of lines of a log."""
        path = self.memory / f"{kind}-{mib}"
        if path.exists():
            return path
        with open(path, "wb") as file:
            if kind == "random":
                for _ in range(mib):
                    file.write(os.urandom(1 << 20))
            else:
                line = 0
                while file.tell() < mib << 20:
                    file.write("".join(f"2026-01-01T00:00:{n % 60:02} host app[{n}]: request {n * 7919 % 65536} done in {n * 31 % 977} ms\n"
                                       for n in range(line, line + 5000)).encode())
                    line += 5000
                file.truncate(mib << 20)
        return path

    def thread_cpu(self, name):
        """CPU seconds of the bastion's threads of this name."""
        ticks = 0
        for task in pathlib.Path(f"/proc/{self.server.pid}/task").iterdir():
            if (task / "comm").read_text().strip() == name:
                fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / TICK

    def sessions(self):
        return sum(path.is_dir() for path in (self.state / "spool").iterdir())

    def forget(self):
        """Drops the recordings so far."""
        for file in (self.state / "archive").glob("*.pcr"):
            file.unlink()


class Table:
    """Prints figures and counts the goals that were held."""

    def __init__(self):
        self.held, self.goals = 0, 0

    def line(self, *cells):
        print("| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(cells, (54, 16, 12, 6, 44))) + " |", flush=True)

    def figure(self, what, value, unit="", most=None, least=None, more=""):
        bound = most if most is not None else least
        if bound is None:
            self.line(what, f"{value:.2f} {unit}", "", "", more)
            return
        held = value <= most if most is not None else value >= least
        self.goals += 1
        self.held += held
        self.line(what, f"{value:.2f} {unit}", f"{'<=' if most is not None else '>='} {bound:g}", "held" if held else "MISSED", more)

    def against(self, what, base, times, most=None, least=None, more="", inverse=False):
        """Ratio of medians: of speeds if `inverse`, of times if not."""
        a, b = statistics.median(times), statistics.median(base)
        said = f"{a * 1000:.1f} ms against {b * 1000:.1f} ms"
        self.figure(what, b / a if inverse else a / b, "x", most, least, more or said)


def moved(rig, host, tool, way, options, payload):
    """Seconds that one transfer took; what arrived in a file has the right length."""
    got = rig.memory / "got"
    client = ["-q", "-F", rig.dir / "cfg", *options]
    batch = rig.memory / "batch"
    batch.write_text(f"get {payload} {got}\n" if way == "down" else f"put {payload} {got}\n")
    there = f"{host}:{payload if way == 'down' else got}"
    command = {"exec": ["ssh", *client, host, f"cat {payload}" if way == "down" else "cat >/dev/null"],
               "scp": ["scp", *client, *([there, got] if way == "down" else [payload, there])],
               "sftp": ["sftp", *client, "-b", batch, host]}[tool]
    start = time.monotonic()
    with open(payload if tool == "exec" and way == "up" else os.devnull, "rb") as source:
        subprocess.run(command, stdin=source, stdout=subprocess.DEVNULL, check=True, timeout=LIMIT_S)
    took = time.monotonic() - start
    if tool != "exec":
        if got.stat().st_size != payload.stat().st_size:
            raise SystemExit(f"{tool} {way} through {host} lost bytes")
        got.unlink()
    return took


def alternate(rig, hosts, measured, rounds, tool, way, options, payload):
    """Seconds by host, and the bastion's CPU seconds a GiB through `measured`."""
    times, cpu = {host: [] for host in hosts}, []
    gib = payload.stat().st_size / (1 << 30)
    for n in range(rounds):
        for host in turns(hosts, n):
            before = rig.cpu()
            times[host].append(moved(rig, host, tool, way, options, payload))
            if host == measured:
                cpu.append((rig.quiet_cpu() - before) / gib)
        rig.forget()
    return times, statistics.median(cpu)


def speed(times, payload):
    return f"{(payload.stat().st_size >> 20) / statistics.median(times):.0f} MiB/s"


def bulk(rig, table, args):
    goals = {"down": 0.55, "up": 0.5}
    runs = [("exec", "default", (), "random", 4.5), ("exec", "aes128-gcm", GCM, "random", 3.7), ("scp", "default", (), "random", 4.5),
            ("sftp", "default", (), "random", 4.5), ("exec", "default", (), "text", None)]
    for tool, cipher, options, kind, most in runs:
        payload = rig.payload(kind, args.mib)
        for way in ("down", "up"):
            times, cpu = alternate(rig, ("direct", "ours"), "ours", args.rounds, tool, way, options, payload)
            what = f"{tool} {way}, {cipher}, {kind}, recorded"
            said = f"{speed(times['ours'], payload)} against {speed(times['direct'], payload)}"
            table.against(f"{what}: speed", times["direct"], times["ours"], least=goals[way] if most else None, more=said, inverse=True)
            table.figure(f"{what}: CPU", cpu, "s/GiB", most=most)


class Far:
    """What a forward leads to: gives the payload to who comes, or takes it and says how much came."""

    def __init__(self, port, way, payload):
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port, self.way, self.payload = self.listener.getsockname()[1], way, payload
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                if self.way == "down":
                    with open(self.payload, "rb") as source:
                        connection.sendfile(source)
                else:
                    connection.sendall(str(drained(connection)).encode())

    def close(self):
        # Shut down first: closing alone leaves the thread waiting.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def drained(connection):
    """Bytes until the other side's end."""
    buffer, total = bytearray(1 << 20), 0
    while got := connection.recv_into(buffer):
        total += got
    return total


@contextlib.contextmanager
def tunnel(rig, host, port):
    """A port here that `ssh -L` forwards to that one through `host`."""
    near, control = free_port(), ("-o", f"ControlPath={rig.memory}/{host}.tunnel")
    rig.ssh(host, options=(*control, "-fNM", "-o", "ExitOnForwardFailure=yes", "-L", f"{near}:127.0.0.1:{port}"),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    try:
        yield near
    finally:
        rig.ssh(host, options=(*control, "-O", "exit"), stderr=subprocess.DEVNULL)


def carried(port, way, payload):
    """Seconds that the payload took through a tunnel."""
    size = payload.stat().st_size
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as connection:
        if way == "up":
            with open(payload, "rb") as source:
                connection.sendfile(source)
            connection.shutdown(socket.SHUT_WR)
            arrived = int(connection.recv(64) or 0)
        else:
            arrived = drained(connection)
    took = time.monotonic() - start
    if arrived != size:
        raise SystemExit(f"a forward lost bytes: {arrived} of {size} came {way}")
    return took


def forward(rig, table, args):
    """Bulk through `ssh -L`, of which digests are kept, or all of it."""
    payload, hosts = rig.payload("random", args.mib), ("direct", "ours")
    gib = payload.stat().st_size / (1 << 30)
    for kept, least, most in (("digest", {"down": 0.65, "up": 0.6}, 3.5), ("full", {}, None)):
        for way in ("down", "up"):
            far = Far(rig.digested if kept == "digest" else 0, way, payload)
            times, cpu = {host: [] for host in hosts}, []
            for n in range(args.rounds):
                for host in turns(hosts, n):
                    before = rig.cpu()
                    with tunnel(rig, host, far.port) as near:
                        times[host].append(carried(near, way, payload))
                    if host == "ours":
                        cpu.append((rig.quiet_cpu() - before) / gib)
                rig.forget()
            far.close()
            said = f"{speed(times['ours'], payload)} against {speed(times['direct'], payload)}"
            table.against(f"-L {way}, recorded {kept}: speed", times["direct"], times["ours"], least=least.get(way), more=said, inverse=True)
            table.figure(f"-L {way}, recorded {kept}: CPU", statistics.median(cpu), "s/GiB", most=most)


def jump(rig, table, args):
    payload = rig.payload("random", args.mib)
    for way in ("down", "up"):
        times, cpu = alternate(rig, ("direct", "jump", "inner"), "inner", args.rounds, "exec", way, (), payload)
        through = statistics.median(times["direct"]) / statistics.median(times["jump"])
        said = f"{speed(times['inner'], payload)}; through sshd {through:.2f}; {cpu:.1f} CPU-s/GiB"
        table.against(f"exec {way} by -J, recorded: speed", times["direct"], times["inner"], least=0.35, more=said, inverse=True)
    before = rig.cpu()
    times = logins(rig, ("jump", "inner"), args.logins)
    each = (rig.quiet_cpu() - before) * 1000 / args.logins
    table.against("ssh true by -J, of that through sshd", times["jump"], times["inner"], most=0.3)
    table.figure("ssh true by -J: CPU", each, "ms")


def setup(rig, table, args):
    before = rig.cpu()
    times = logins(rig, ("direct", "ours"), args.logins)
    each = (rig.quiet_cpu() - before) * 1000 / args.logins
    table.against("ssh true, of direct", times["direct"], times["ours"], most=0.45)
    table.figure("ssh true: CPU", each, "ms", most=5)
    rates = {"direct": [], "ours": []}
    with concurrent.futures.ThreadPoolExecutor(RATE_AT_ONCE) as pool:
        for n in range(args.rounds):
            for host in turns(("direct", "ours"), n):
                start = time.monotonic()
                done = pool.map(lambda _: rig.ssh(host, "true", options=CURVE, stdin=subprocess.DEVNULL).returncode, range(RATE_CONNECTIONS))
                if any(done):
                    raise SystemExit(f"a connection to {host} failed")
                rates[host].append(RATE_CONNECTIONS / (time.monotonic() - start))
    ours, direct = statistics.median(rates["ours"]), statistics.median(rates["direct"])
    table.figure("connections a second, of direct", ours / direct, "x", least=0.9, more=f"{ours:.0f}/s against {direct:.0f}/s")


def channel(rig, table, args):
    """Further channels on an open connection."""
    hosts = ("direct", "ours")
    control = {host: ("-o", f"ControlPath={rig.memory}/{host}.sock") for host in hosts}
    for host in hosts:
        rig.ssh(host, "-fNM", options=control[host], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        rig.ssh(host, "true", options=control[host], check=True)
    times = {host: [] for host in hosts}
    for n in range(args.logins):
        # A spare connection is dialled meanwhile, where there is one.
        time.sleep(0.2)
        for host in turns(hosts, n):
            start = time.monotonic()
            rig.ssh(host, "true", options=control[host], stdin=subprocess.DEVNULL, check=True)
            times[host].append(time.monotonic() - start)
    table.against("a further channel, a spare being ready, of direct", times["direct"], times["ours"], most=1.3)
    took, failed = [], 0
    for _ in range(args.channels):
        start = time.monotonic()
        failed += rig.ssh("ours", "true", options=control["ours"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0
        took.append(time.monotonic() - start)
    table.figure("a further channel, one right after the other", statistics.median(took) * 1000, "ms", most=50)
    table.figure(f"of {args.channels} channels failed", failed, "", most=0)
    for host in hosts:
        rig.ssh(host, "-O", "exit", options=control[host], stderr=subprocess.DEVNULL)


def echo(rig, table, args):
    hosts = ("direct", "ours", "jump")
    for how, load, p50_most, p99_most in (("idle", None, 1.55, None), ("beside 20 MB/s", PACED, 1.6, None),
                                          ("beside an unbounded transfer", UNBOUNDED, None, 20)):
        times = {host: [] for host in hosts}
        shells = typists(rig, hosts, "stty -icanon; echo go; exec cat >/dev/null")
        try:
            for n in range(args.rounds):
                for host in turns(hosts, n):
                    beside = load and subprocess.Popen(["ssh", "-F", rig.dir / "cfg", host, load], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
                    if beside:
                        time.sleep(0.5)
                    times[host] += strokes(shells, (host,), args.keys // args.rounds)[host]
                    if beside:
                        beside.terminate()
                        beside.wait(LIMIT_S)
        finally:
            leave(shells)
        rig.quiet_cpu()
        rig.forget()
        base = statistics.median(times["direct"])
        p50 = {host: statistics.median(times[host]) for host in hosts}
        p99 = {host: sorted(times[host])[int(len(times[host]) * 0.99) - 1] for host in hosts}
        said = f"{p50['ours']:.2f} against {base:.2f} ms; through sshd {p50['jump'] / base:.2f}"
        table.figure(f"key echo {how}: p50, of direct", p50["ours"] / base, "x", most=p50_most, more=said)
        table.figure(f"key echo {how}: p99", p99["ours"], "ms", most=p99_most, more=f"direct {p99['direct']:.1f} ms, through sshd {p99['jump']:.1f} ms")


class Held:
    """Idle terminals of 80 by 24 through one host; their clients share a terminal of ours, where nobody types."""

    def __init__(self, rig, host):
        self.rig, self.host, self.clients = rig, host, []
        self.master, self.terminal = pty.openpty()
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def grow(self, sessions):
        while len(self.clients) < sessions:
            self.clients += [subprocess.Popen(["ssh", "-F", self.rig.dir / "cfg", "-tt", self.host, "exec sleep 36000"], stdin=self.terminal,
                                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
                             for _ in range(min(RATE_AT_ONCE, sessions - len(self.clients)))]
            wait_for("sessions", lambda: self.rig.sessions() >= len(self.clients), 60)

    def alive(self):
        return sum(client.poll() is None for client in self.clients)

    def end(self):
        for client in self.clients:
            client.terminate()
        for client in self.clients:
            client.wait(LIMIT_S)
        os.close(self.master)
        os.close(self.terminal)


def idle(rig, table, args, host="ours", most=96, many=True):
    """Memory and CPU of sessions that do nothing, and whether the memory comes back."""
    sessions = args.sessions
    free = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemAvailable:")) >> 10
    if free < HELD_MIB * sessions * (2 if many else 1):
        raise SystemExit(f"{free} MiB are free: too little for so many clients, try --sessions")
    rig.ssh(host, "true", stdin=subprocess.DEVNULL, check=True)
    rig.quiet_cpu()
    time.sleep(2)
    base = rig.pss()
    held = Held(rig, host)
    try:
        held.grow(sessions)
        time.sleep(10)
        full, before = rig.pss(), rig.cpu()
        table.figure(f"{sessions} idle sessions, {host}: memory of each", (full - base) / sessions, "KiB", most=most, more=f"{base >> 10} MiB at rest")
        time.sleep(20)
        table.figure(f"{sessions} idle sessions, {host}: CPU", (rig.cpu() - before) * 100 / 20, "%", most=0.5)
        if many:
            held.grow(2 * sessions)
            shells = typists(rig, (host,), "stty -icanon; echo go; exec cat >/dev/null")
            keys = sorted(strokes(shells, (host,), 200)[host])
            leave(shells)
            login = statistics.median(logins(rig, (host,), 10)[host])
            table.figure(f"{2 * sessions} sessions: alive of them", held.alive(), "", least=2 * sessions)
            table.figure(f"{2 * sessions} sessions: key echo p50", keys[100], "ms", most=5, more=f"p99 {keys[197]:.1f} ms; ssh true {login * 1000:.0f} ms")
    finally:
        held.end()
    ended = time.monotonic()
    while rig.pss() > base * 1.2 and time.monotonic() < ended + 60:
        time.sleep(1)
    table.figure(f"memory after they ended, {host}, of that before", rig.pss() / base, "x", most=1.2, more=f"after {time.monotonic() - ended:.0f} s")


def inner_idle(rig, table, args):
    idle(rig, table, args, "inner", 160, many=False)


def replay(rig, table, args):
    """Terminal output through a pty; what the sealer does comes later and is reported beside."""
    mib = 8 if args.quick else 32
    text = rig.payload("text", mib)
    hosts = ("direct", "ours")
    times, path, deferred = {host: [] for host in hosts}, [], []
    for n in range(args.rounds):
        for host in turns(hosts, n):
            before, sealer = rig.cpu(), rig.thread_cpu("sealer")
            start = time.monotonic()
            rig.ssh(host, f"cat {text}", options=("-tt",), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
            times[host].append(time.monotonic() - start)
            if host == "ours":
                whole = rig.quiet_cpu() - before
                deferred.append(rig.thread_cpu("sealer") - sealer)
                path.append(whole - deferred[-1])
        rig.forget()
    table.against(f"replay of {mib} MiB through a pty: speed, of direct", times["direct"], times["ours"], least=0.95, inverse=True)
    table.figure(f"replay of {mib} MiB: CPU in the session's path", statistics.median(path) * 32 / mib, "s/32 MiB", most=0.9,
                 more=f"and {statistics.median(deferred) * 32 / mib:.2f} deferred")


def slow(rig, table, args):
    """Targets that flood clients that do not read."""
    connections = 4
    rig.quiet_cpu()
    base = rig.pss()
    clients = [subprocess.Popen(["ssh", "-F", rig.dir / "cfg", "ours", UNBOUNDED], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
               for _ in range(connections)]
    wait_for("sessions", lambda: rig.sessions() >= connections, 60)
    time.sleep(0.5)
    for client in clients:
        client.send_signal(signal.SIGSTOP)
    time.sleep(5)
    table.figure("a reader that stopped: memory of each", (rig.pss() - base) / connections / 1024, "MiB", most=8)
    for client in clients:
        client.kill()
        client.wait(LIMIT_S)
    rig.quiet_cpu()
    rig.forget()


# Memory first: a heap that bulk has stretched hides what a session costs.
PARTS = {"idle": idle, "inner-idle": inner_idle, "setup": setup, "channel": channel, "echo": echo, "replay": replay, "bulk": bulk, "forward": forward, "jump": jump, "slow": slow}


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--bin", required=True)
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--mib", type=int, default=256)
    args.add_argument("--sessions", type=int, default=1000)
    args.add_argument("--only", choices=PARTS, action="append")
    args.add_argument("--quick", action="store_true", help="small counts: shows that it works, not how fast it is")
    args = args.parse_args()
    args.logins, args.channels, args.keys = max(args.rounds * 6, 30), 1000, 600
    if args.quick:
        args.rounds, args.mib, args.sessions, args.logins, args.channels, args.keys = 2, 32, 30, 6, 20, 100
    if os.geteuid() != 0:
        raise SystemExit("run it as root: the target sshd logs root in")
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="pcbench") as folder, tempfile.TemporaryDirectory(prefix="pcbench", dir=memory) as payloads:
        rig = House(args.bin, folder, payloads)
        table = Table()
        try:
            print(f"load average at the start: {os.getloadavg()[0]:.1f}", flush=True)
            table.line("what", "measured", "goal", "", "more")
            for part in args.only or PARTS:
                PARTS[part](rig, table, args)
            print(f"{table.held} of {table.goals} goals held; load average at the end: {os.getloadavg()[0]:.1f}")
        finally:
            rig.close()


if __name__ == "__main__":
    main()
