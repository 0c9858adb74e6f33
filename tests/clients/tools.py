"""Rows of programs that run `ssh` themselves: rsync, git, sshfs, lftp, Ansible."""
import os, re, subprocess

from case import Case, equal, row, same_file, same_tree, shown
from house import demand

ANSIBLE_TASKS, ANSIBLE_TASKS_QUICK = 50, 5
ANSIBLE_LIMIT_S = 400


def rsync(c, *args):
    return c.run(["rsync", "-e", c.rsh(), *args])


@row("rsync", "a folder up", quick=True, recordings=1)
def rsync_up(c: Case):
    tree = c.tree(c.here / "tree")
    c.payload(tree)
    rsync(c, "-a", f"{tree}/", f"{c.target}:{c.there}/up/")
    same_tree(tree, c.there / "up")


@row("rsync", "a folder down", quick=True, recordings=1)
def rsync_down(c: Case):
    tree = c.tree(c.there / "tree")
    c.payload(tree)
    rsync(c, "-az", f"{c.target}:{tree}/", f"{c.here}/down/")
    same_tree(tree, c.here / "down")


@row("rsync", "--delete, and a change", recordings=2)
def rsync_delete(c: Case):
    tree = c.tree(c.here / "tree")
    rsync(c, "-a", f"{tree}/", f"{c.target}:{c.there}/up/")
    (tree / "d0" / "file 0 ü").unlink()
    (tree / "link").unlink()
    c.file(tree, "new", 5000)
    with open(tree / "d0" / "file 4 ü", "r+b") as large:
        large.write(b"changed")
    rsync(c, "-a", "--checksum", "--delete", f"{tree}/", f"{c.target}:{c.there}/up/")
    same_tree(tree, c.there / "up")


@row("rsync", "resumes what was cut off", recordings=2)
def rsync_resume(c: Case):
    whole, part = c.payload(c.here), c.there / "payload"
    part.write_bytes(whole.read_bytes()[:(c.mib << 20) // 3])
    rsync(c, "-a", "--append-verify", whole, f"{c.target}:{c.there}/")
    same_file(whole, part)
    (c.here / "back").write_bytes(whole.read_bytes()[:100_000])
    rsync(c, "-a", "--append-verify", f"{c.target}:{part}", c.here / "back")
    same_file(whole, c.here / "back")


@row("rsync", "says what the target says", recordings=1)
def rsync_fails(c: Case):
    done = c.run(["rsync", "-a", "-e", c.rsh(), f"{c.target}:{c.there}/none", c.here], code=23)
    demand(b"No such file" in done.stderr, f"said {shown(done.stderr)}")


def git(c, *args, at=None):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    return c.run(["git", *identity, *(["-C", at] if at else []), *args], env={"GIT_SSH_COMMAND": c.rsh()})


def repository(c, size):
    """A bare one at the target with something in it."""
    work = c.tree(c.there / "work")
    c.file(work, "large", size)
    git(c, "init", "-q", work)
    git(c, "add", "-A", at=work)
    git(c, "commit", "-q", "-m", "first", at=work)
    git(c, "clone", "-q", "--bare", work, c.there / "repo.git")
    return c.there / "repo.git"


@row("git", "clone, push, fetch", quick=True, recordings=3)
def git_clone_push(c: Case):
    bare, mine = repository(c, c.mib << 18), c.here / "mine"
    git(c, "clone", "-q", f"{c.target}:{bare}", mine)
    same_file(c.there / "work" / "large", mine / "large")
    c.file(mine, "new", c.mib << 18)
    git(c, "add", "-A", at=mine)
    git(c, "commit", "-q", "-m", "second", at=mine)
    git(c, "push", "-q", "origin", "main", at=mine)
    git(c, "fetch", "-q", at=mine)
    heads = [git(c, "rev-parse", "main", at=where).stdout for where in (mine, bare)]
    equal(heads[1], heads[0], "the pushed commit")
    git(c, "fsck", "--strict", at=bare)


@row("git", "ssh:// address, shallow, archive", recordings=2)
def git_url(c: Case):
    bare = repository(c, 1 << 16)
    git(c, "clone", "-q", "--depth", "1", f"ssh://{c.target}{bare}", c.here / "shallow")
    same_file(c.there / "work" / "large", c.here / "shallow" / "large")
    git(c, "archive", f"--remote={c.target}:{bare}", "-o", c.here / "a.tar", "main")
    demand((c.here / "a.tar").stat().st_size > 1 << 16, "the archive is short")


@row("sshfs", "mount, write, read, rename, list", quick=True, recordings=1, needs="/dev/fuse")
def sshfs(c: Case):
    mount = c.here / "mount"
    mount.mkdir()
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    c.run(["sshfs", "-o", f"ssh_command={c.rsh()}", f"{c.target}:{c.there}", mount], **silent)
    try:
        payload = c.payload(c.here)
        with open(payload, "rb") as source, open(mount / "up", "wb") as sink:
            while data := source.read(1 << 20):
                sink.write(data)
        same_file(payload, c.there / "up")
        c.file(c.there, "down", 1 << 20)
        same_file(c.there / "down", mount / "down")
        (mount / "folder").mkdir()
        (mount / "up").rename(mount / "folder" / "moved")
        (mount / "link").symlink_to("down")
        (mount / "down").chmod(0o600)
        (c.there / "down").stat()
        equal(sorted(os.listdir(mount)), ["down", "folder", "link"], "the listing")
        equal(sorted(os.listdir(c.there / "folder")), ["moved"], "what is there")
        (mount / "folder" / "moved").unlink()
        equal(os.listdir(c.there / "folder"), [], "what is there")
    finally:
        c.run(["fusermount3", "-u", mount])


# It leaves without waiting for the answer to a listing's close, which its end may overtake: a request that it waits for
# comes last.
@row("lftp", "put, get, mirror, move, remove", quick=True, recordings=1, tapped=("in",))
def lftp(c: Case):
    payload, tree = c.payload(c.here), c.tree(c.there / "tree")
    script = f"""set sftp:connect-program "ssh -a -x -F {c.cfg}"
set net:max-retries 1
set cmd:fail-exit true
open sftp://{c.target}
put -O {c.there} {payload}
get {c.there}/payload -o {c.here}/back
mirror {tree} {c.here}/tree
mv {c.there}/payload {c.there}/moved
mkdir {c.there}/folder
rm {c.there}/moved
ls {c.there}
mkdir {c.there}/last
bye
"""
    c.run(["lftp", "--norc", "-c", script.replace("\n", "; ").replace(";; ", "; ")])
    same_file(payload, c.here / "back")
    same_tree(tree, c.here / "tree")
    equal(sorted(os.listdir(c.there)), ["folder", "last", "tree"], "what is there")


def playbook(c, count):
    """That many tasks, each of another kind than the one before."""
    kinds = ("command: echo {n}", "shell: cat {there}/count 2>/dev/null; echo {n} >> {there}/count",
             "copy: {{content: 'text {n}', dest: '{there}/copy{n}'}}", "file: {{path: '{there}/dir{n}', state: directory}}",
             "slurp: {{src: /etc/hostname}}")
    tasks = "\n".join(f"  - {kinds[n % len(kinds)].format(n=n, there=c.there)}" for n in range(count))
    (c.here / "play.yml").write_text(f"- hosts: all\n  gather_facts: false\n  tasks:\n{tasks}\n")
    (c.here / "hosts").write_text(f"{c.target} ansible_python_interpreter=/usr/bin/python3\n")


def ansible(c, pipelining):
    count = ANSIBLE_TASKS_QUICK if c.quick else ANSIBLE_TASKS
    playbook(c, count)
    (c.here / "ansible.cfg").touch()
    control = c.here / "m"
    c.controls.append(control)
    one_connection = f"-F {c.cfg} -o ControlMaster=auto -o ControlPersist=60 -o ControlPath={control}"
    settings = {"ANSIBLE_PIPELINING": str(pipelining), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_SSH_ARGS": one_connection,
                "ANSIBLE_LOCAL_TEMP": str(c.here / "local"), "ANSIBLE_REMOTE_TEMP": str(c.there / "tmp"),
                "ANSIBLE_CONFIG": str(c.here / "ansible.cfg")}
    done = c.run(["ansible-playbook", "-i", c.here / "hosts", c.here / "play.yml"], env=settings, limit=ANSIBLE_LIMIT_S)
    recap = re.search(rb"ok=(\d+)\s+changed=\d+\s+unreachable=0\s+failed=0", done.stdout)
    demand(recap and int(recap[1]) == count, f"said {shown(done.stdout)}")
    equal(len((c.there / "count").read_bytes().splitlines()), len(range(1, count, 5)), "shell tasks done")
    c.leave(control)


@row("ansible", "a playbook, pipelining on", quick=True, recordings=1)
def ansible_pipelining(c: Case):
    ansible(c, True)


# Modules run in a terminal there, which the tap does not count.
@row("ansible", "a playbook, pipelining off", recordings=1, tapped=("in",))
def ansible_files(c: Case):
    ansible(c, False)
