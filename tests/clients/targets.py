"""Rows of targets that are no OpenSSH; and the servers themselves, which the house starts with the first of their rows."""
import os, subprocess

from case import Case, MIB_QUICK, equal, row, same_file, same_tree, shown
from house import HERE, demand
from openssh import Terminal

PASSWORD = "correct horse battery"
NO_TAP = ()


def python(house):
    return house.tools / "venv/bin/python"


def asyncssh(house, port):
    house.spawn([python(house), HERE / "targets/asyncssh_server.py", port, house.dir / "hk", house.state / "keys/target_ca.pub"])


def dropbear(house, port):
    """As root without a password of its own: the accounts that it sees are another file's."""
    folder = house.dir / "dropbear"
    (folder / ".ssh").mkdir(parents=True)
    subprocess.run(["dropbearkey", "-t", "ed25519", "-f", folder / "hk"], check=True, capture_output=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    (folder / ".ssh" / "authorized_keys").write_text((folder / "key.pub").read_text())
    house.secret("root", "dropbear", (folder / "key").read_text())
    (folder / "passwd").write_text(f"root:x:0:0:root:{folder}:/bin/bash\n")
    for path in (folder, folder / ".ssh"):
        path.chmod(0o700)
    server = f"dropbear -F -E -s -r {folder}/hk -p 127.0.0.1:{port} -P {folder}/pid"
    house.spawn(["unshare", "--mount", "sh", "-c", f"mount --bind {folder}/passwd /etc/passwd && exec {server}"])
    public = subprocess.run(["dropbearkey", "-y", "-f", folder / "hk"], check=True, capture_output=True, text=True).stdout
    (folder / "hk.pub").write_text(next(line for line in public.splitlines() if line.startswith("ssh-ed25519")) + "\n")
    return {"host_key": folder / "hk.pub", "credential": "files:key"}


def erlang(house, port):
    folder = house.dir / "erlang"
    folder.mkdir()
    (folder / "ssh_host_ed25519_key").write_bytes((house.dir / "hk").read_bytes())
    (folder / "ssh_host_ed25519_key").chmod(0o600)
    house.secret("admin", "erlang", PASSWORD)
    settings = {"PORT": str(port), "HOST_KEYS": str(folder), "LOGIN": "admin", "PASSWORD": PASSWORD, "HOME": str(folder)}
    script = (HERE / "targets/erlang.escript").read_text()
    script = " ".join(line for line in script.splitlines() if not line.lstrip().startswith("%"))
    house.spawn(["erl", "-noshell", "-eval", script], env={**os.environ, **settings})
    return {"login": "admin", "credential": "files:password"}


def device(house, port):
    house.secret("admin", "device", PASSWORD)
    house.spawn([python(house), HERE / "targets/device.py", port, house.dir / "hk", "admin", PASSWORD])
    return {"login": "admin", "credential": "files:keyboard-interactive"}


SERVERS = {"asyncssh": asyncssh, "dropbear": dropbear, "erlang": erlang, "device": device}


def runs_programs(target, streams=True):
    """What every target that runs programs and has files can do."""
    @row(f"to {target}", "exec: output and code", quick=True, recordings=1 if streams else 2, target=target, tapped=NO_TAP)
    def output(c: Case):
        if streams:
            done = c.ssh("cat; printf err >&2; exit 7", input=b"in\0\xff\n", code=7)
            equal((done.stdout, done.stderr), (b"in\0\xff\n", b"err"), "output")
        else:
            equal(c.ssh("seq 100000").stdout[-7:], b"100000\n", "stdout")
            c.ssh("exit 7", code=255)

    @row(f"to {target}", "a download", quick=True, recordings=1, target=target, tapped=NO_TAP)
    def download(c: Case):
        # Erlang's server sends a program's output as one piece, in time that grows with its square: without us 64 MiB take
        # it 49 s, and it breaks off at a key exchange on the way.
        payload = c.payload(c.there) if streams else c.file(c.there, "payload", MIB_QUICK << 20)
        with open(c.here / "got", "wb") as sink:
            c.ssh(f"cat {payload}", stdout=sink)
        same_file(payload, c.here / "got")

    @row(f"to {target}", "sftp both ways", quick=True, recordings=1, target=target, tapped=NO_TAP)
    def files(c: Case):
        payload = c.payload(c.here)
        batch = f"put {payload} {c.there}/up\nget {c.there}/up {c.here}/down\nrename {c.there}/up {c.there}/moved\n"
        c.run(["sftp", "-q", "-F", c.cfg, "-b", "-", c.target], input=batch.encode())
        same_file(payload, c.there / "moved")
        same_file(payload, c.here / "down")

    @row(f"to {target}", "ControlMaster: sessions one after another", recordings=1, target=target, tapped=NO_TAP)
    def control_master(c: Case):
        through = ("-S", c.background())
        for n in range(5):
            equal(c.ssh(f"echo {n}", options=through).stdout, f"{n}\n".encode(), "stdout")
        c.leave(through[1])

    if not streams:
        return

    @row(f"to {target}", "both ways at once", recordings=1, target=target, tapped=NO_TAP)
    def both_ways(c: Case):
        payload = c.payload(c.here)
        with open(payload, "rb") as source, open(c.here / "got", "wb") as sink:
            c.ssh("cat", stdin=source, stdout=sink)
        same_file(payload, c.here / "got")

    @row(f"to {target}", "output after the end of input", recordings=1, target=target, tapped=NO_TAP)
    def half_close(c: Case):
        done = c.ssh("cat >/dev/null; seq 100000; exit 3", input=b"x", code=3)
        demand(done.stdout.endswith(b"100000\n"), f"ends in {shown(done.stdout)}")

    @row(f"to {target}", "a program that a signal ends", recordings=1, target=target, tapped=NO_TAP)
    def killed(c: Case):
        equal(c.ssh("echo before; kill -KILL $$", code=255).stdout, b"before\n", "stdout")

    @row(f"to {target}", "rsync both ways", recordings=2, target=target, tapped=NO_TAP)
    def rsync(c: Case):
        tree = c.tree(c.here / "tree")
        c.run(["rsync", "-a", "-e", c.rsh(), f"{tree}/", f"{c.target}:{c.there}/up/"])
        c.run(["rsync", "-a", "-e", c.rsh(), f"{c.target}:{c.there}/up/", f"{c.here}/down/"])
        same_tree(tree, c.here / "down")


runs_programs("asyncssh")
runs_programs("dropbear")
# Its programs have one stream, no input, and a failure instead of an exit code.
runs_programs("erlang", streams=False)


@row("to asyncssh", "a signal to the program", quick=True, recordings=1, target="asyncssh", tapped=NO_TAP)
def signalled(c: Case):
    from libraries import asyncssh as client, call
    done = call(c, client, "send-signal", "USR1", "trap 'echo got; exit 8' USR1; echo ready; while :; do sleep 0.1; done", code=8)
    equal(done.stdout, b"ready\ngot\n", "stdout")


@row("to dropbear", "a terminal", recordings=1, target="dropbear", tapped=NO_TAP)
def terminal(c: Case):
    t = Terminal(c, "trap 'stty size; exit 5' WINCH; stty size; echo ready; while :; do sleep 0.1; done")
    t.until(b"30 100\r\nready\r\n")
    t.resize(41, 133)
    t.until(b"41 133\r\n")
    t.ends(5)


@row("to device", "a terminal, keyboard-interactive", quick=True, recordings=1, target="device", tapped=NO_TAP)
def device_terminal(c: Case):
    t = Terminal(c, options=("-tt",))
    t.until(b"switch> ")
    t.type(b"show version\r")
    t.until(b"Software 1.2.3")
    t.type(b"exit\r")
    t.ends(0)


@row("to device", "commands from a script, without a terminal", quick=True, recordings=1, target="device", tapped=NO_TAP)
def device_script(c: Case):
    done = c.ssh(options=("-T",), input=b"show counters\nshow version\nnonsense\nexit\n")
    equal(done.stdout.count(b"Gi0/"), 2000, "lines of counters")
    demand(b"Software 1.2.3" in done.stdout and b"% Unknown" in done.stdout, f"said {shown(done.stdout)}")


@row("to device", "a command, which it does not know", recordings=1, target="device", tapped=NO_TAP)
def device_command(c: Case):
    c.ssh("show version", code=1)
