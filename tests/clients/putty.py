"""Rows of PuTTY's programs. They know user certificates since 0.78."""
from case import Case, digest, equal, row, same_file, shown
from house import demand


def putty(c, program, *args, certificate=True, **kw):
    """The program's name and its options, up to the host; PuTTY takes our host key by its fingerprint."""
    key = c.here / "key.ppk"
    if not key.exists():
        c.run(["puttygen", c.key, "-O", "private", "-o", key, "--new-passphrase", "/dev/null"])
    proof = ["-i", key, "-noagent", "-batch", "-hostkey", c.house.fingerprint]
    if certificate:
        proof += ["-cert", f"{c.key}-cert.pub"]
    user = f"{c.login}@{c.target}" if c.form == "direct" else c.login
    way = ["-P", c.house.ssh_port]
    if c.form == "jump":
        outer = " ".join(str(a) for a in ("plink", *proof, *way, "-l", "alice", "-nc", "%host:%port", "127.0.0.1"))
        way = ["-P", 22, "-proxycmd", outer]
    host = "127.0.0.1" if c.form == "direct" else c.target
    args = [str(a).replace("HOST:", f"{host}:") for a in args]
    named = [] if any(f"{host}:" in a for a in args) else [host]
    return c.run([program, *proof, *way, "-l", user, *(["-ssh"] if program == "plink" else []), *named, *args], **kw)


@row("plink", "exec: streams and code", quick=True, recordings=1)
def streams(c: Case):
    done = putty(c, "plink", "cat; printf err >&2; exit 7", input=b"in\0\xff\n", code=7)
    equal(done.stdout, b"in\0\xff\n", "stdout")
    equal(done.stderr, b"err", "stderr")


@row("plink", "up, then down", quick=True, recordings=2)
def one_way(c: Case):
    payload = c.payload(c.here)
    with open(payload, "rb") as source:
        equal(putty(c, "plink", "sha256sum", stdin=source).stdout.split()[0].decode(), digest(payload), "what came")
    with open(c.here / "got", "wb") as sink:
        putty(c, "plink", f"cat {payload}", stdout=sink)
    same_file(payload, c.here / "got")


@row("plink", "both ways at once", recordings=1)
def both_ways(c: Case):
    payload = c.payload(c.here)
    with open(payload, "rb") as source, open(c.here / "got", "wb") as sink:
        putty(c, "plink", "cat", stdin=source, stdout=sink)
    same_file(payload, c.here / "got")


@row("plink", "a bare key is refused", recordings=0)
def bare(c: Case):
    putty(c, "plink", "true", certificate=False, code=1)


def files(c, *protocol):
    payload = c.payload(c.here)
    putty(c, "pscp", "-q", *protocol, payload, f"HOST:{c.there}/up")
    same_file(payload, c.there / "up")
    putty(c, "pscp", "-q", *protocol, f"HOST:{c.there}/up", c.here / "down")
    same_file(payload, c.here / "down")


@row("pscp", "a file up and down, sftp protocol", quick=True, recordings=2)
def pscp(c: Case):
    files(c, "-sftp")


@row("pscp", "a file up and down, old protocol", recordings=2)
def old_pscp(c: Case):
    files(c, "-scp")


@row("psftp", "a batch", quick=True, recordings=1)
def psftp(c: Case):
    payload, script = c.payload(c.here), c.here / "script"
    script.write_text(f"put {payload} {c.there}/up\nget {c.there}/up {c.here}/down\nmkdir {c.there}/folder\n"
                      f"mv {c.there}/up {c.there}/folder/moved\nls {c.there}/folder\nquit\n")
    done = putty(c, "psftp", "-b", script)
    demand(b"moved" in done.stdout, f"said {shown(done.stdout)}")
    same_file(payload, c.here / "down")
    same_file(payload, c.there / "folder" / "moved")
