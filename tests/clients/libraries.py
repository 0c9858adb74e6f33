"""Rows of clients that are made with a library; the programs are in `programs/`."""
from case import Case, equal, row, same_file, shown
from house import demand

FAILED, BY_SIGNAL = 255, 254
CHANNELS = 8


def paramiko(c):
    return [c.tools / "venv/bin/python", c.programs / "paramiko_client.py"]


def asyncssh(c):
    return [c.tools / "venv/bin/python", c.programs / "asyncssh_client.py"]


def go(c):
    return [c.tools / "go-client"]


def libssh(c):
    return [c.tools / "libssh-client"]


def call(c, library, *operation, certificate=True, **kw):
    """What the program's first arguments say, and the operation."""
    house = c.house
    known = house.dir / ("known" if library in (asyncssh, go) else "known.plain")
    key, proof = (c.key, f"{c.key}-cert.pub") if certificate else (c.bare_key(), "-")
    if c.form == "direct":
        where = ("127.0.0.1", house.ssh_port, f"{c.login}@{c.target}", key, proof, known, "-")
    else:
        where = (c.target, 22, c.login, key, proof, known, f"127.0.0.1:{house.ssh_port}:alice")
    # libssh leaves the outer connection to ssh.
    env = {"PROXY_COMMAND": f"{c.rsh()} -W %h:%p gate"}
    return c.run([*library(c), *where, *operation], env=env, **kw)


def rows(name, library, files):
    """The same for each library."""
    @row(name, "exec: streams and code", quick=True, recordings=1)
    def streams(c: Case):
        done = call(c, library, "exec", "cat; printf err >&2; exit 7", input=b"in\0\xff\n", code=7)
        equal(done.stdout, b"in\0\xff\n", "stdout")
        equal(done.stderr, b"err", "stderr")

    @row(name, "a program that a signal ends", recordings=1)
    def killed(c: Case):
        done = call(c, library, "exec", "echo before; kill -TERM $$", code=BY_SIGNAL)
        equal(done.stdout, b"before\n", "stdout")
        # paramiko tells its caller that there is no status, and not which signal.
        demand(library is paramiko or b"signal TERM" in done.stderr, f"said {shown(done.stderr)}")

    @row(name, "a terminal", recordings=1, tapped=())
    def terminal(c: Case):
        done = call(c, library, "terminal", "stty size; echo err >&2; exit 3", code=3)
        equal(done.stdout, b"30 100\r\nerr\r\n", "output")

    @row(name, "both ways at once", quick=True, recordings=1)
    def both_ways(c: Case):
        payload = c.payload(c.here)
        with open(payload, "rb") as source, open(c.here / "got", "wb") as sink:
            call(c, library, "exec", "cat", stdin=source, stdout=sink)
        same_file(payload, c.here / "got")

    @row(name, "eight channels of one connection", quick=True, recordings=1)
    def many(c: Case):
        done = call(c, library, "many", CHANNELS, "seq 20000; exit 2", code=2)
        equal(done.stdout.count(b"20000\n"), CHANNELS, "ends that came")
        equal(len(done.stdout), CHANNELS * len("".join(f"{n}\n" for n in range(1, 20001))), "bytes")

    @row(name, "a bare key is refused", quick=True, recordings=0)
    def bare(c: Case):
        call(c, library, "exec", "true", certificate=False, code=FAILED)

    if not files:
        return

    @row(name, "a file up and down by sftp", quick=True, recordings=2)
    def sftp(c: Case):
        payload = c.payload(c.here)
        call(c, library, "put", payload, c.there / "up")
        same_file(payload, c.there / "up")
        call(c, library, "get", c.there / "up", c.here / "down")
        same_file(payload, c.here / "down")


rows("paramiko", paramiko, files=True)
rows("asyncssh", asyncssh, files=True)
rows("go", go, files=False)
rows("libssh", libssh, files=True)


# What cannot show a certificate gets a refusal.

@row("libssh2", "certificates are not known to it: refused", forms=("direct",), recordings=0)
def libssh2(c: Case):
    where = ("127.0.0.1", c.house.ssh_port, f"{c.login}@{c.target}", c.bare_key(), "-", "-", "-")
    c.run([c.tools / "venv/bin/python", c.programs / "ssh2_client.py", *where, "exec", "true"], code=FAILED)


@row("curl", "sftp:// without a certificate: refused", forms=("direct",), quick=True, recordings=0)
def curl(c: Case):
    user = f"{c.login}@{c.target}:"
    address = f"sftp://127.0.0.1:{c.house.ssh_port}{c.there}/x"
    bare = c.bare_key()
    done = c.run(["curl", "-sS", "--insecure", "-u", user, "--key", bare, "--pubkey", f"{bare}.pub", address], code=None)
    # Before libssh2 1.11 it knows no cipher that we take.
    no_common_cipher, login_denied = 2, 67
    demand(done.returncode in (no_common_cipher, login_denied), f"exit {done.returncode}: {shown(done.stderr)}")
