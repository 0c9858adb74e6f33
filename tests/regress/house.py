"""What one test runs in: a gate with its state folder, the targets behind it, and OpenSSH's test harness in front.

Runs inside network and process namespaces of its own, so that every test has the ports that it names, and nothing
that it leaves behind outlives it. Started by regress.py.
"""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
PACKAGE = pathlib.Path("/usr/lib/openssh/regress")
SFTP_SERVER = "/usr/lib/openssh/sftp-server"
SSH_PORT = 2222  # the gate
SSHD_PORT = 4242  # the test's own sshd
PROXY_PORT = 4240  # where a connection gets an `sshd -i` of its own
ADMIN_SECS = 60
READY_SECS = 30
DRAIN_SECS = 60


class Wrong(Exception):
    """Why a test did not pass."""


def run(*args, **kw):
    done = subprocess.run([str(arg) for arg in args], capture_output=True, text=True, timeout=ADMIN_SECS, **kw)
    if done.returncode != 0:
        raise Wrong(f"{' '.join(map(str, args))}: {done.stderr.strip()[-500:]}")
    return done.stdout


class House:
    """The gate, its folders, and what through.py has to know."""

    def __init__(self, root, binaries, form, test):
        self.root, self.bin = pathlib.Path(root), pathlib.Path(binaries)
        self.test, self.form = test, form
        self.obj, self.src, self.state = self.root / "obj", self.root / "src", self.root / "state"
        self.obj.mkdir()
        self.src.mkdir()
        # Keys for targets, where a test is about keys.
        (self.root / "secrets").mkdir(mode=0o700)
        self.lay_out()

    def lay_out(self):
        """OpenSSH's scripts where they are installed, seen from a folder of our own: one helper is ours."""
        for entry in PACKAGE.iterdir():
            if entry.name not in ("unittests", "scp-ssh-wrapper.sh"):
                (self.src / entry.name).symlink_to(entry)
        for helper in ("netcat", "modpipe", "mkdtemp", "check-perm", "setuid-allowed", "config.h"):
            shutil.copy(PACKAGE / helper, self.obj / helper)
        python = f"{sys.executable} -SE"
        for name, script in (("ssh", "through.py"), ("sftp-server", "sftp_server.py")):
            stub(self.root / name, f"exec {python} {HERE}/{script} {self.root}/house.json \"$@\"")
        stub(self.src / "scp-ssh-wrapper.sh", f"exec {python} {HERE}/scp_end.py {self.root}/house.json \"$@\"")

    def plain_account(self):
        """The caller's account with a plain shell and our folder as its home, in here only: what an account prints when
        it starts a shell is not part of a test."""
        lines = pathlib.Path("/etc/passwd").read_text().splitlines()
        plain = [f"root:x:0:0:root:{self.root}:/bin/sh" if line.startswith("root:") else line for line in lines]
        made = self.root / "passwd"
        made.write_text("\n".join(plain) + "\n")
        run("mount", "--bind", made, "/etc/passwd")

    def portcullis(self, *args):
        return run(self.bin / "portcullis", *args, "--state", self.state)

    def make_gate(self):
        self.portcullis("init", "--node", "gate1", "--listen", f"127.0.0.1:{SSH_PORT}", "--host-name", "127.0.0.1")
        config = self.state / "config.toml"
        text = config.read_text()
        for key, value in {
            # One test is one source.
            "exempt_networks": '["127.0.0.0/8"]',
            # What the harness tells its sshd to accept.
            "env_allow": '["_XXX_TEST", "_XXX_TEST_*"]',
            "spool_reserve_mib": "16",
            "filter": '"info,portcullis=debug"',
            **({"credential": f'[{{name="harness", kind="file", folder="{self.root}/secrets"}}]'}
               if self.test.get("login") == "key" else {}),
        }.items():
            before = text
            lines = [f"{key} = {value}" if line.lstrip("#").startswith(f"{key} = ") else line for line in text.splitlines()]
            text = "\n".join(lines) + "\n"
            if text == before:
                raise Wrong(f"the configuration has no key {key}")
        config.write_text(text)
        # The harness takes its user key for its host key as well, and writes it into known_hosts: so the gate's is
        # that one, and the client checks the gate as it would check sshd. But no gate certifies its own keys: where
        # a test uses that key, `user` stands in.
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.root / "user")
        shutil.copy(self.state / "keys/ssh_host_ed25519_key", self.obj / "ssh-ed25519")
        shutil.copy(self.state / "keys/ssh_host_ed25519_key.pub", self.obj / "ssh-ed25519.pub")
        (self.root / "known_hosts").write_text(f"localhost-with-alias,127.0.0.1,[127.0.0.1]:{SSH_PORT} "
                                               + (self.obj / "ssh-ed25519.pub").read_text()
                                               + "@cert-authority * " + (self.state / "keys/host_ca.pub").read_text())
        with open(self.root / "serve.out", "wb") as out, open(self.root / "serve.err", "wb") as err:
            self.server = subprocess.Popen([self.bin / "portcullis", "serve", "--config", config],
                                           stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        end = time.monotonic() + READY_SECS
        while b"ready" not in (self.root / "serve.out").read_bytes():
            if time.monotonic() > end or self.server.poll() is not None:
                raise Wrong("the gate does not start: " + (self.root / "serve.err").read_text()[-500:])
            time.sleep(0.02)
        self.portcullis("identity", "add", "alice")

    def tell(self):
        """What the three stand-ins read."""
        (self.root / "house.json").write_text(json.dumps({
            "root": str(self.root), "obj": str(self.obj), "src": str(self.src), "state": str(self.state),
            "bin": str(self.bin), "form": self.form, "ssh_port": SSH_PORT, "sshd_port": SSHD_PORT,
            "proxy_port": PROXY_PORT, "sftp_server": SFTP_SERVER, "package": str(PACKAGE), "test": self.test, "gate_pid": self.server.pid,
        }))

    def serve_proxy(self):
        """Each connection gets an sshd of its own, as the harness's ProxyCommand does: by the test's configuration of
        this very moment. Behind pipes, as there, it knows no address of its client; a certificate needs one."""
        listener = socket.create_server(("127.0.0.1", PROXY_PORT), backlog=64)

        def sshd(**streams):
            return subprocess.Popen(["sh", self.src / "sshd-log-wrapper.sh", self.obj / "sshd.log", "/usr/sbin/sshd",
                                     # Which kinds of key a user may have is the gate's to say.
                                     "-o", "PubkeyAcceptedAlgorithms=ssh-ed25519-cert-v01@openssh.com,ssh-ed25519",
                                     "-i", "-f", self.obj / "sshd_proxy"], stderr=subprocess.DEVNULL,
                                    start_new_session=True, **streams)

        def carry(peer):
            with peer, sshd(stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as child:
                up = threading.Thread(target=pour, args=(peer.fileno(), child.stdin), daemon=True)
                up.start()
                pour(child.stdout.fileno(), peer.fileno())
                with contextlib.suppress(OSError):  # the gate may have gone first
                    peer.shutdown(socket.SHUT_RDWR)
                up.join()

        def answer():
            while True:
                peer, _ = listener.accept()
                if self.test.get("login") == "key":
                    threading.Thread(target=carry, args=(peer,), daemon=True).start()
                else:
                    sshd(stdin=peer, stdout=peer)
                    peer.close()

        threading.Thread(target=answer, daemon=True).start()

    def harness(self, name, limit):
        """OpenSSH's test-exec.sh with the stand-ins."""
        env = {
            "HOME": str(self.root), "PATH": os.environ["PATH"], "TMPDIR": str(self.root), "LANG": "C.UTF-8",
            "USER": "root", "LOGNAME": "root", "SHELL": "/bin/sh", "TEST_SHELL": "sh", "BUILDDIR": str(self.obj),
            "TEST_SSH_PORT": str(SSHD_PORT), "TEST_SSH_UNSAFE_PERMISSIONS": "1", "TEST_SSH_IPV6": "yes",
            "TEST_SSH_SFTPSERVER": SFTP_SERVER,
        }
        if self.form != "bare":
            env |= {"TEST_SSH_SSH": str(self.root / "ssh"), "TEST_SSH_SFTPSERVER": str(self.root / "sftp-server"),
                    "TEST_SSH_SSHD_CONFOPTS": f"TrustedUserCAKeys {self.state}/keys/target_ca.pub"}
        with open(self.root / "test.log", "wb") as log:
            test = subprocess.Popen(["sh", self.src / "test-exec.sh", self.obj, self.src / f"{name}.sh"], env=env,
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.obj,
                                    start_new_session=True)
            try:
                code = test.wait(limit)
            except subprocess.TimeoutExpired:
                raise Wrong(f"still running after {limit} s") from None
        said = (self.root / "test.log").read_text(errors="replace")
        if code != 0:
            raise Wrong(" / ".join(failures(said)) or f"exit {code}: {said[-300:]}")
        skipped = [line for line in said.splitlines() if line.lower().startswith(("skipped", "skipping"))]
        if skipped:
            raise Wrong(skipped[0])

    def evidence(self):
        """How many sessions the gate recorded. Every one has to verify as SEALED, and the ledger with them."""
        self.server.send_signal(signal.SIGTERM)
        try:
            self.server.wait(DRAIN_SECS)
        except subprocess.TimeoutExpired:
            self.server.kill()
            raise Wrong("the gate does not stop") from None
        left = [entry.name for entry in (self.state / "spool").iterdir() if entry.is_dir()]
        if left:
            raise Wrong(f"{len(left)} sessions are not sealed")
        files = sorted((self.state / "archive").glob("*.pcr"))
        for file in files:
            said = subprocess.run([self.bin / "portcullis-player", "verify", "--content", "--trust",
                                   self.state / "trust.toml", file], capture_output=True, text=True, timeout=ADMIN_SECS)
            if said.returncode != 0 or "SEALED" not in said.stdout:
                raise Wrong(f"{file.name}: {(said.stdout + said.stderr).strip()[:300]}")
        self.portcullis("ledger", "fsck")
        panics = [line for line in (self.root / "serve.err").read_text(errors="replace").splitlines() if "panicked" in line]
        if panics:
            raise Wrong(panics[0])
        return len(files)


def pour(source, sink):
    """Bytes from one descriptor into another, or into a pipe that is closed at the end, until either ends."""
    into = sink if isinstance(sink, int) else sink.fileno()
    try:
        while data := os.read(source, 65536):
            while data:
                data = data[os.write(into, data):]
    except OSError:
        pass
    if into != sink:
        sink.close()


def failures(said):
    """The lines of a failed test that tell why."""
    quiet = ("trace:", "ok ", "failed ", "+ ")
    telling = [line.strip() for line in said.splitlines()
               if any(word in line.lower() for word in ("fail", "fatal", "mismatch", "corrupt", "unexpected", "bad "))]
    return [line for line in telling if not line.startswith(quiet)][:4]


def stub(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def inside(order):
    """One test, from an order of regress.py to its result."""
    began = time.monotonic()
    result = {"name": order["name"], "ok": False, "sessions": 0, "why": ""}
    try:
        run("ip", "link", "set", "lo", "up")
        os.makedirs("/run/sshd", exist_ok=True)
        house = House(order["root"], order["bin"], order["form"], order["test"])
        house.plain_account()
        if order["form"] == "bare":
            house.harness(order["name"], order["limit"])
        else:
            house.make_gate()
            house.tell()
            house.serve_proxy()
            try:
                house.harness(order["name"], order["limit"])
            finally:
                # A recording that does not verify is a failure of its own, also of a test that failed.
                result["sessions"] = house.evidence()
            if result["sessions"] == 0:
                raise Wrong("nothing came through the gate")
        result["ok"] = True
    except Wrong as wrong:
        context = wrong.__context__
        result["why"] = f"{context}; {wrong}" if isinstance(context, Wrong) else str(wrong)
    result["secs"] = round(time.monotonic() - began, 1)
    (pathlib.Path(order["root"]) / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    inside(json.loads(sys.argv[1]))
