"""One row of the matrix: what it is, and what its program gets to work with."""
import dataclasses, hashlib, os, pathlib, shutil, signal, subprocess, typing

from house import HERE, Fault, demand, wait

FORMS = ("direct", "jump")
# Of one client program.
LIMIT_S = 120
SHOWN_CHARS = 400
MIB, MIB_QUICK = 64, 8
ROWS = []


@dataclasses.dataclass
class Row:
    client: str
    operation: str
    run: typing.Callable
    # Part of `--quick`.
    quick: bool = False
    forms: tuple = FORMS
    # Which ways of the accounts equal what the target's tap counts.
    tapped: tuple = ("in", "out", "err")
    # How many recordings it makes; nothing: at least one.
    recordings: int | None = None
    target: str = "db1"
    # A file without which it cannot run; the row is then left out, and says so.
    needs: str = ""


def row(client, operation, **more):
    """Adds the function below as a row."""
    def add(run):
        ROWS.append(Row(client, operation, run, **more))
        return run
    return add


class Case:
    """A folder on the client's side, one at the target, and the way there in this form."""

    def __init__(self, house, row, form, folder, quick):
        self.house, self.form, self.tools, self.quick = house, form, house.tools, quick
        self.programs = HERE / "programs"
        self.target, self.login, self.key = house.way(row.target)
        self.here, self.there = pathlib.Path(folder) / "here", pathlib.Path(folder) / "there"
        self.here.mkdir()
        self.there.mkdir()
        # Of a payload.
        self.mib = MIB_QUICK if quick else MIB
        self.children = []
        # Sockets of clients that went into the background.
        self.controls = []
        # What taps have counted beside the one of the target's sshd.
        self.taps = []
        self.cfg = self.here.parent / "cfg"
        self.cfg.write_text(self.configuration())
        self.environment = {**os.environ, "HOME": str(house.dir / "home"), "LC_ALL": "C.UTF-8", "SSH_AUTH_SOCK": ""}
        self.environment.pop("DISPLAY", None)

    def configuration(self):
        """For the stock client and all that run it: the target under its own name."""
        d = self.house.dir
        common = (f" IdentitiesOnly yes\n IdentityFile {self.key}\n BatchMode yes\n LogLevel ERROR\n"
                  f" UserKnownHostsFile {d}/known\n GlobalKnownHostsFile /dev/null\n StrictHostKeyChecking yes\n")
        gate = f" HostName 127.0.0.1\n Port {self.house.ssh_port}\n"
        if self.form == "direct":
            return f"Host {self.target}\n{gate}{common} User {self.login}@{self.target}\n"
        return f"Host gate\n{gate}{common} User alice\nHost {self.target}\n{common} User {self.login}\n ProxyJump gate\n"

    # Programs

    def run(self, command, code=0, limit=LIMIT_S, env=(), **kw):
        """Runs a program to its end, which has to be this one; gives its output."""
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        if "input" not in kw:
            kw.setdefault("stdin", subprocess.DEVNULL)
        command = [str(a) for a in command]
        try:
            done = subprocess.run(command, timeout=limit, env={**self.environment, **dict(env)}, cwd=self.here, **kw)
        except subprocess.TimeoutExpired as late:
            raise Fault(f"hangs after {limit} s: {shown(late.stdout)} {shown(late.stderr)}") from late
        if code is not None and done.returncode != code:
            what = " ".join(command[-3:])[:100]
            raise Fault(f"{what}: exit {done.returncode}, not {code}: {shown(done.stderr)} {shown(done.stdout)}")
        return done

    def start(self, command, **kw):
        """Starts a program that this row ends."""
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.DEVNULL)
        child = subprocess.Popen([str(a) for a in command], env=self.environment, cwd=self.here, **kw)
        self.children.append(child)
        return child

    def ssh_command(self, *args, options=()):
        return ["ssh", "-F", self.cfg, *options, self.target, *args]

    def ssh(self, *args, options=(), **kw):
        return self.run(self.ssh_command(*args, options=options), **kw)

    def rsh(self):
        """`ssh` with its configuration as one word, for programs that run it."""
        return f"ssh -F {self.cfg}"

    def background(self, *options, limit=LIMIT_S):
        """A connection that others go through, by the path of its socket; it ends with the row at the latest."""
        control = self.here / f"m{len(self.controls)}"
        self.controls.append(control)
        # No pipes: the process that goes into the background would hold them open.
        with open(self.here / "said", "wb") as said:
            self.ssh(options=("-fNM", "-S", control, *options), stdout=said, stderr=said, code=None, limit=limit)
        demand(control.exists(), f"no connection: {shown((self.here / 'said').read_bytes())}")
        return control

    def leave(self, control):
        """Ends such a connection."""
        self.ssh(options=("-S", control, "-O", "exit"))
        wait("the client in the background does not end", lambda: not control.exists())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for control in self.controls:
            if control.exists():
                self.ssh(options=("-S", control, "-O", "exit"), code=None)
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
            try:
                child.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                child.kill()

    # Files

    def file(self, where, name, size):
        """Random bytes in a new file."""
        path = where / name
        path.write_bytes(os.urandom(size))
        return path

    def bare_key(self):
        """The same key without a certificate beside it, which some programs take unasked."""
        bare = self.here / "bare"
        shutil.copy(self.key, bare)
        shutil.copy(f"{self.key}.pub", f"{bare}.pub")
        return bare

    def payload(self, where, name="payload"):
        return self.file(where, name, self.mib << 20)

    def tree(self, where):
        """Files in folders, an empty one and one with an odd name among them."""
        where.mkdir(exist_ok=True)
        for n, size in enumerate((0, 1, 4095, 70_000, 1 << 20)):
            folder = where / f"d{n % 2}"
            folder.mkdir(exist_ok=True)
            self.file(folder, f"file {n} ü", size)
        (where / "link").symlink_to("d1")
        return where


def shown(output):
    return (output or b"").decode(errors="replace").strip()[-SHOWN_CHARS:]


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def same_file(one, other):
    demand(pathlib.Path(other).is_file(), f"{other} is not there")
    demand(digest(one) == digest(other), f"{other} is not what {one} is")


def same_tree(one, other):
    def content(top):
        top = pathlib.Path(top)
        return {str(p.relative_to(top)): os.readlink(p) if p.is_symlink() else digest(p) if p.is_file() else None
                for p in top.rglob("*")}
    demand(content(one) == content(other), f"{other} is not what {one} is: {sorted(content(other))}, not {sorted(content(one))}")


def equal(got, wanted, what):
    demand(got == wanted, f"{what}: {shorten(got)}, not {shorten(wanted)}")


def shorten(value):
    return repr(value if not isinstance(value, bytes) or len(value) < SHOWN_CHARS else value[:40] + b"... %d bytes" % len(value))
