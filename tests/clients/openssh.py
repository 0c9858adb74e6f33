"""Rows of OpenSSH's own programs."""
import concurrent.futures, fcntl, os, pty, re, select, signal, struct, subprocess, termios, time

from case import Case, LIMIT_S, digest, equal, row, same_file, same_tree, shown
from house import Fault, demand, wait

NO_TAP = ()
CODES = (0, 1, 42, 126, 127, 254, 255)
CIPHERS = ("chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com")


@row("ssh", "exec: streams and code", quick=True, recordings=1)
def streams(c: Case):
    done = c.ssh("cat; printf err >&2; exit 7", input=b"in\0\xff\n", code=7)
    equal(done.stdout, b"in\0\xff\n", "stdout")
    equal(done.stderr, b"err", "stderr")


@row("ssh", "exit codes", recordings=len(CODES))
def codes(c: Case):
    for code in CODES:
        c.ssh(f"exit {code}", code=code)


@row("ssh", "a program that a signal ends", quick=True)
def killed(c: Case):
    done = c.ssh("echo before; kill -KILL $$; echo after", code=255)
    equal(done.stdout, b"before\n", "stdout")


@row("ssh", "a shell that reads its input", quick=True)
def shell(c: Case):
    done = c.ssh(options=("-T",), input=b"echo one; echo two >&2\nexit 3\n", code=3)
    equal((done.stdout, done.stderr), (b"one\n", b"two\n"), "output")


@row("ssh", "an empty command's output, and none", recordings=2)
def nothing(c: Case):
    equal(c.ssh("true").stdout, b"", "stdout")
    equal(c.ssh("cat", options=("-n",)).stdout, b"", "stdout")


class Terminal:
    """A client on a terminal of its own."""

    def __init__(self, case, *args, options=("-tt",), size=(30, 100), before="stty iutf8"):
        self.mine, its = pty.openpty()
        self.resize(*size)
        subprocess.run(before.split(), stdin=its, check=True)
        self.child = case.start(case.ssh_command(*args, options=options), stdin=its, stdout=its, stderr=its,
                                start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(its)
        self.seen = b""

    def resize(self, rows, cols):
        fcntl.ioctl(self.mine, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def until(self, text, limit=LIMIT_S):
        end = time.monotonic() + limit
        while text not in self.seen:
            if not select.select([self.mine], [], [], max(0, end - time.monotonic()))[0]:
                raise Fault(f"hangs before {text!r}: {shown(self.seen)}")
            try:
                more = os.read(self.mine, 1 << 16)
            except OSError:
                more = b""
            demand(more, f"ended before {text!r}: {shown(self.seen)}")
            self.seen += more

    def type(self, text):
        os.write(self.mine, text)

    def ends(self, code):
        """Its exit code; what it still prints is read."""
        while True:
            try:
                more = os.read(self.mine, 1 << 16)
            except OSError:
                break
            if not more:
                break
            self.seen += more
        os.close(self.mine)
        equal(self.child.wait(LIMIT_S), code, f"exit code behind {shown(self.seen)}")


@row("ssh", "terminal: size, resize, name", quick=True, tapped=NO_TAP)
def terminal(c: Case):
    c.environment["TERM"] = "xterm-256color"
    t = Terminal(c, "trap 'stty size; exit 5' WINCH; stty size; echo $TERM; echo ready; while :; do sleep 0.1; done")
    t.until(b"ready\r\n")
    demand(b"30 100\r\nxterm-256color\r\n" in t.seen, f"said {shown(t.seen)}")
    t.resize(41, 133)
    t.until(b"41 133\r\n")
    t.ends(5)


@row("ssh", "terminal: a login shell", quick=True, tapped=NO_TAP)
def login_shell(c: Case):
    t = Terminal(c)
    t.type(b"echo a$((40+2))b; exit 9\n")
    t.until(b"a42b\r\n")
    t.ends(9)


@row("ssh", "terminal: ^C and ^D", tapped=NO_TAP)
def control_keys(c: Case):
    t = Terminal(c, "trap 'echo int' INT; echo ready; cat; cat; cat; exit 4")
    t.until(b"ready\r\n")
    t.type(b"\x03")
    t.until(b"int\r\n")
    t.type(b"line\n")
    t.until(b"line\r\nline\r\n")
    t.type(b"\x04")
    t.type(b"more\n")
    t.until(b"more\r\nmore\r\n")
    t.type(b"\x04")
    t.ends(4)


@row("ssh", "terminal: raw bytes both ways", tapped=NO_TAP)
def raw(c: Case):
    every = bytes(range(256))
    t = Terminal(c, "stty raw -echo; echo go; head -c 256; printf end", options=("-tt", "-e", "none"))
    t.until(b"go\n")
    # The local one first had a cooked mode too.
    demand(every not in t.seen, "seen before it was typed")
    t.type(every)
    t.until(every + b"end")
    t.ends(0)


@row("ssh", "terminal: the modes of this one", tapped=NO_TAP)
def modes(c: Case):
    t = Terminal(c, "stty -a; exit 0")
    t.until(b"speed")
    t.ends(0)
    said = re.split(rb";?\s+", t.seen)
    for mode in (b"icanon", b"isig", b"echo", b"iutf8"):
        demand(mode in said, f"{mode} is not in {shown(t.seen)}")
    # A mode that is not the usual one.
    t = Terminal(c, "stty -a; exit 0", before="stty -ixon intr ^X")
    t.until(b"speed")
    t.ends(0)
    demand(b"-ixon" in re.split(rb";?\s+", t.seen) and b"intr = ^X" in t.seen, f"said {shown(t.seen)}")


@row("ssh", "upload, stdin", quick=True)
def upload(c: Case):
    payload = c.payload(c.here)
    with open(payload, "rb") as source:
        done = c.ssh("sha256sum", stdin=source)
    equal(done.stdout.split()[0].decode(), digest(payload), "what came")


@row("ssh", "download, stdout", quick=True)
def download(c: Case):
    payload = c.payload(c.there)
    with open(c.here / "got", "wb") as sink:
        c.ssh(f"cat {payload}", stdout=sink)
    same_file(payload, c.here / "got")


@row("ssh", "both ways at once", quick=True)
def both_ways(c: Case):
    payload = c.payload(c.here)
    with open(payload, "rb") as source, open(c.here / "got", "wb") as sink:
        c.ssh("cat", stdin=source, stdout=sink)
    same_file(payload, c.here / "got")


@row("ssh", "download, stderr beside stdout")
def stderr(c: Case):
    payload, other = c.payload(c.there), c.payload(c.there, "other")
    with open(c.here / "out", "wb") as out, open(c.here / "err", "wb") as err:
        c.ssh(f"cat {payload} & cat {other} >&2; wait", stdout=out, stderr=err)
    same_file(payload, c.here / "out")
    same_file(other, c.here / "err")


@row("ssh", "output after the end of input", quick=True)
def half_close(c: Case):
    done = c.ssh("cat >/dev/null; sleep 0.2; seq 100000; exit 3", input=b"x", code=3)
    demand(done.stdout.endswith(b"100000\n"), f"ends in {shown(done.stdout)}")


@row("ssh", "input that nobody reads", quick=True, tapped=("out", "err"))
def ignored(c: Case):
    done = c.ssh("sleep 0.1; echo bye; exit 6", input=bytes(8 << 20), code=6)
    equal(done.stdout, b"bye\n", "stdout")


# OpenSSH's client tells only servers of its own kind that nobody reads any more (eow@openssh.com, PROTOCOL 2.1): the
# program goes on to its end.
@row("ssh", "a reader that goes away")
def reader_gone(c: Case):
    child = c.start(c.ssh_command("seq 2000000; exit 3"))
    demand(child.stdout.read(100), "no output")
    child.stdout.close()
    equal(child.wait(LIMIT_S), 3, "exit code")


@row("ssh", "a killed client", tapped=NO_TAP)
def killed_client(c: Case):
    child = c.start(c.ssh_command("echo on; cat /dev/zero"))
    equal(child.stdout.read(3), b"on\n", "stdout")
    child.send_signal(signal.SIGKILL)
    child.wait(LIMIT_S)


@row("ssh", "new keys on the way (RekeyLimit)", quick=True)
def rekey(c: Case):
    payload = c.file(c.here, "payload", 12 << 20)
    with open(payload, "rb") as source, open(c.here / "got", "wb") as sink:
        c.ssh("cat", stdin=source, stdout=sink, options=("-o", "RekeyLimit=1M"))
    same_file(payload, c.here / "got")


@row("ssh", "each cipher, and -C", recordings=len(CIPHERS) + 1)
def ciphers(c: Case):
    payload = c.file(c.here, "payload", 1 << 20)
    for options in [("-c", cipher) for cipher in CIPHERS] + [("-C",)]:
        with open(payload, "rb") as source, open(c.here / "got", "wb") as sink:
            c.ssh("cat", stdin=source, stdout=sink, options=options)
        same_file(payload, c.here / "got")


@row("ssh", "keepalives of the client")
def keepalives(c: Case):
    done = c.ssh("sleep 3; echo late", options=("-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1"))
    equal(done.stdout, b"late\n", "stdout")


@row("ssh", "environment by allow-list", recordings=1)
def environment(c: Case):
    done = c.ssh("echo $LC_PORT:$SECRET_X:", options=("-o", "SetEnv=LC_PORT=a SECRET_X=b"))
    equal(done.stdout, b"a::\n", "stdout")


@row("ssh", "certificate in the agent")
def agent(c: Case):
    socket = c.here / "agent"
    c.start(["ssh-agent", "-D", "-a", socket])
    wait("ssh-agent is not ready", socket.exists)
    c.run(["ssh-add", "-q", c.key], env={"SSH_AUTH_SOCK": str(socket)})
    options = ("-o", "IdentityFile=none", "-o", "IdentitiesOnly=no", "-o", f"IdentityAgent={socket}")
    if c.form == "jump":
        text = c.cfg.read_text().replace("IdentitiesOnly yes", "IdentitiesOnly no")
        c.cfg.write_text(text.replace(f" IdentityFile {c.key}\n", f" IdentityAgent {socket}\n"))
        options = ()
    equal(c.ssh("echo in", options=options).stdout, b"in\n", "stdout")


@row("ssh", "agent and X11 are not forwarded unless granted")
def not_forwarded(c: Case):
    socket = c.here / "agent"
    c.start(["ssh-agent", "-D", "-a", socket])
    wait("ssh-agent is not ready", socket.exists)
    done = c.ssh("echo $SSH_AUTH_SOCK:$DISPLAY:", options=("-A", "-X"), env={"SSH_AUTH_SOCK": str(socket), "DISPLAY": ":77"})
    equal(done.stdout, b"::\n", "stdout")


@row("ssh", "a host key line instead of the authority")
def known_line(c: Case):
    c.cfg.write_text(c.cfg.read_text().replace(f"{c.house.dir}/known\n", f"{c.house.dir}/known.plain\n"))
    equal(c.ssh("echo in").stdout, b"in\n", "stdout")


@row("ssh", "bare key: refused in words", quick=True, recordings=0)
def bare_key(c: Case):
    # In the file: a jump's outer client reads no options of the command line.
    said = c.cfg.read_text().replace("BatchMode yes", "BatchMode no").replace("LogLevel ERROR", "LogLevel INFO")
    c.cfg.write_text(said.replace(f"IdentityFile {c.key}\n", f"IdentityFile {c.bare_key()}\n"))
    done = c.ssh("true", code=255)
    demand(b"certificate" in done.stderr, f"does not say that it needs a certificate: {shown(done.stderr)}")


@row("ssh", "a shell on the outer connection shows the way", quick=True, forms=("jump",), recordings=0)
def way(c: Case):
    done = c.run(["ssh", "-F", c.cfg, "gate"])
    demand(f"{c.login}@{c.target}".encode() in done.stdout, f"said {shown(done.stdout)}")


# scp and sftp

@row("scp", "a file up and down, sftp protocol", quick=True, recordings=2)
def scp(c: Case, old=()):
    payload = c.payload(c.here)
    up = ["scp", "-q", *old, "-F", c.cfg]
    c.run([*up, payload, f"{c.target}:{c.there}/up"])
    same_file(payload, c.there / "up")
    c.run([*up, f"{c.target}:{c.there}/up", c.here / "down"])
    same_file(payload, c.here / "down")


@row("scp", "a file up and down, -O", quick=True, recordings=2)
def old_scp(c: Case):
    scp(c, ("-O",))


def scp_tree(c, old):
    tree = c.tree(c.here / "tree")
    # scp follows links.
    (tree / "link").unlink()
    os.utime(tree / "d1" / "file 1 ü", (1_000_000_000, 1_000_000_000))
    options = ["scp", "-q", "-r", "-p", *old, "-F", c.cfg]
    c.run([*options, tree, f"{c.target}:{c.there}/up"])
    same_tree(tree, c.there / "up")
    equal(int((c.there / "up" / "d1" / "file 1 ü").stat().st_mtime), 1_000_000_000, "mtime")
    c.run([*options, f"{c.target}:{c.there}/up", c.here / "down"])
    same_tree(tree, c.here / "down")


@row("scp", "a folder with times, sftp protocol", recordings=2)
def scp_folder(c: Case):
    scp_tree(c, ())


@row("scp", "a folder with times, -O", recordings=2)
def old_scp_folder(c: Case):
    scp_tree(c, ("-O",))


@row("scp", "a file that is not there", recordings=2)
def scp_missing(c: Case):
    for old in ((), ("-O",)):
        done = c.run(["scp", "-q", *old, "-F", c.cfg, f"{c.target}:{c.there}/none", c.here / "x"], code=1)
        demand(b"No such file" in done.stderr, f"said {shown(done.stderr)}")


@row("sftp", "batch: every command", quick=True, recordings=1)
def sftp(c: Case):
    payload, there = c.payload(c.here), c.there
    # The rest of this one is fetched.
    part = c.here / "part"
    part.write_bytes(payload.read_bytes()[:1 << 20])
    batch = f"""
put {payload} {there}/up
get {there}/up {c.here}/down
reget {there}/up {part}
mkdir {there}/folder
rename {there}/up {there}/folder/moved
symlink moved {there}/folder/link
chmod 640 {there}/folder/moved
ls -l {there}/folder
put {part} {there}/gone
rm {there}/gone
-rm {there}/not-there
df {there}
"""
    done = c.run(["sftp", "-q", "-F", c.cfg, "-b", "-", c.target], input=batch.encode())
    demand(b"moved" in done.stdout, f"said {shown(done.stdout)}")
    moved = there / "folder" / "moved"
    for copy in (moved, c.here / "down", part):
        same_file(payload, copy)
    equal((moved.stat().st_mode & 0o777, os.readlink(there / "folder" / "link")), (0o640, "moved"), "mode and link")
    demand(not (there / "gone").exists(), "what was removed is there")


@row("sftp", "a command that fails ends a batch", recordings=1)
def sftp_fails(c: Case):
    c.run(["sftp", "-q", "-F", c.cfg, "-b", "-", c.target], input=f"rm {c.there}/none\n".encode(), code=1)


# One connection, several sessions

def master(c, *more):
    return ("-S", c.background(*more))


@row("ssh", "ControlMaster: sessions one after another", quick=True, recordings=1)
def control_master(c: Case):
    through = master(c)
    for n in range(10):
        equal(c.ssh(f"echo {n}; exit {n}", options=through, code=n).stdout, f"{n}\n".encode(), "stdout")
    c.ssh(options=(*through, "-O", "check"))
    c.leave(through[1])


@row("ssh", "ControlMaster: eight sessions at once, and scp", quick=True, recordings=1)
def at_once(c: Case):
    through = master(c)
    payloads = [c.file(c.here, f"p{n}", 2 << 20) for n in range(8)]

    def one(payload):
        with open(payload, "rb") as source, open(f"{payload}.got", "wb") as sink:
            c.ssh("cat", options=through, stdin=source, stdout=sink)
        same_file(payload, f"{payload}.got")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(one, payloads))
    c.run(["scp", "-q", "-F", c.cfg, "-o", f"ControlPath={through[1]}", payloads[0], f"{c.target}:{c.there}/up"])
    same_file(payloads[0], c.there / "up")
    c.leave(through[1])


@row("ssh", "ControlPersist: ends by itself", recordings=1)
def control_persist(c: Case):
    control = c.here / "m"
    c.controls.append(control)
    options = ("-o", "ControlMaster=auto", "-o", f"ControlPath={control}", "-o", "ControlPersist=2")
    for n in range(3):
        # The first one leaves a process behind that would hold pipes open.
        with open(c.here / f"out{n}", "wb") as out:
            c.ssh(f"echo {n}", options=options, stdout=out, stderr=subprocess.DEVNULL)
        equal((c.here / f"out{n}").read_bytes(), f"{n}\n".encode(), "stdout")
    wait("the master does not end", lambda: not control.exists())
