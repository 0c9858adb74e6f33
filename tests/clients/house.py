"""A bastion with a target whose sshd counts what passes, and what the rows of the matrix need of both.

The target `db1` is the one of the bench's rig, with the program `tap` between its sshd and everything that it runs.
"""
import json, os, pathlib, subprocess, sys, time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))
from gate import Rig, free_port  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
# Until the recordings of a client that has ended are sealed.
SEAL_S = 20
GRANT = "3h"
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/libexec/sftp-server")
TAPS_CHARS = 600
ALLOWED = "shell,exec,sftp,forward"
# The sums of a recording's accounts that the target sees as well.
TAPPED = {"in": "to_target", "out": "from_target_out", "err": "from_target_err"}


class Fault(Exception):
    """A row that failed: what was expected, and what came."""


def demand(true, what):
    if not true:
        raise Fault(what)


def wait(what, over, limit=SEAL_S):
    end = time.monotonic() + limit
    while not over():
        demand(time.monotonic() < end, what)
        time.sleep(0.02)


class House(Rig):
    def __init__(self, binaries, folder, tools, servers):
        self.tools, self.servers = tools, servers
        self.player = pathlib.Path(binaries) / "portcullis-player"
        self.tap_log = pathlib.Path(folder) / "tap.log"
        self.tap_log.touch()
        super().__init__(binaries, folder)
        d = self.dir
        host_ca, host_key = ((self.state / "keys" / name).read_text().strip() for name in ("host_ca.pub", "ssh_host_ed25519_key.pub"))
        gate = f"[127.0.0.1]:{self.ssh_port}"
        # For clients that know host certificates, and for those that keep a line for each host.
        (d / "known").write_text(f"@cert-authority {gate},* {host_ca}\n")
        (d / "known.plain").write_text(f"{gate},db1 {host_key}\n")
        # PuTTY keeps its own things there.
        (d / "home").mkdir()
        self.fingerprint = self.said(["ssh-keygen", "-lf", self.state / "keys/ssh_host_ed25519_key.pub"]).split()[1]
        self.seen = set()
        self.ways = {"db1": ("db1", "root", d / "id")}
        # The rig's other sshd, which has no tap.
        self.add("db2", "root", self.jump_port, d / "hk.pub")
        self.certify("narrow", "db1", "root", "shell,exec")

    def sshd_configured(self, name, text):
        if name != "target":
            return text
        server = next(path for path in SFTP_SERVERS if os.access(path, os.X_OK))
        return (text.replace("Subsystem sftp internal-sftp", f"Subsystem sftp {server}")
                .replace("SetEnv SHLVL=5", f"SetEnv SHLVL=5 TAP_LOG={self.tap_log}")
                + f"ForceCommand {HERE}/tap\nAcceptEnv LANG LC_*\nPermitTunnel no\nAllowStreamLocalForwarding yes\n")

    def grant(self, how_long):
        self.entry("db1", "root", self.dir / "id")

    def configured(self, text):
        (self.state / "secrets").mkdir(mode=0o700)
        return text + '\n[[credential]]\nname = "files"\nkind = "file"\nfolder = "secrets"\n'

    def secret(self, login, target, text):
        """What that target takes from us."""
        path = self.state / "secrets" / f"{login}@{target}"
        path.touch(mode=0o600)
        path.write_text(text)

    def way(self, name):
        """The target's name, the login there, and the key whose certificate leads to both.

        Its server starts when it is first asked for.
        """
        if name not in self.ways:
            port = free_port()
            how = self.servers[name](self, port) or {}
            wait(f"{name} does not listen", lambda: self.open(port))
            more = ("--credential", how["credential"]) if "credential" in how else ()
            self.add(name, how.get("login", "root"), port, how.get("host_key", self.dir / "hk.pub"), *more)
        return self.ways[name]

    def add(self, name, login, port, host_key, *more):
        """A further target, and a certificate that leads there."""
        self.run("--state", self.state, "target", "add", name, "--addr", f"127.0.0.1:{port}", "--login", login,
                 "--host-key", host_key, *more)
        self.certify(name, name, login)

    def certify(self, way, target, login, allowed=ALLOWED):
        """A new key whose certificate leads there."""
        key = self.dir / f"id-{way}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        self.entry(target, login, key, allowed)
        self.ways[way] = (target, login, key)

    def entry(self, target, login, key, allowed=ALLOWED):
        """A certificate for this key, beside it as ssh looks for it."""
        self.run("--state", self.state, "grant", "issue", "--identity", "alice", "--for", GRANT, "--reason", "client matrix",
                 "--public-key", f"{key}.pub", "--allow", allowed, f"{login}@{target}")

    @staticmethod
    def said(command):
        return subprocess.run([str(a) for a in command], check=True, capture_output=True, text=True, timeout=SEAL_S).stdout

    # What was recorded

    def recorded(self):
        """The recordings that are new since the last call, verified, once no session is left."""
        spool = self.state / "spool"
        wait(f"a session is still there {SEAL_S} s after its client", lambda: not any(p.is_dir() for p in spool.iterdir()))
        new = sorted(set((self.state / "archive").glob("**/*.pcr")) - self.seen)
        self.seen.update(new)
        return [self.verified(file) for file in new]

    def verified(self, file):
        done = subprocess.run([self.player, "verify", "--json", "--content", "--trust", self.state / "trust.toml", file],
                              capture_output=True, timeout=SEAL_S)
        demand(done.stdout, f"{file.name}: {done.stderr.decode()}")
        said = json.loads(done.stdout)
        demand(said["word"] == "SEALED" and done.returncode == 0, f"{file.name}: {said['verdict']}, {said['missing']}")
        for account in said["accounts"]:
            reconcile(file.name, account)
        return said

    def tapped(self, since):
        """What the target's tap has counted from that position of its log on."""
        with open(self.tap_log) as log:
            log.seek(since)
            return [json.loads(line) for line in log]


def reconcile(name, a):
    """Law 5: what came from one side went to the other, was kept back, or could not be delivered."""
    up = a["from_client"] - a["to_target"] - a["undelivered_up"]
    down = (a["from_target_out"] + a["from_target_err"] - a["to_client_out"] - a["to_client_err"] - a["undelivered_down"])
    demand(up >= 0 and down >= 0 and up + down == a["withheld"], f"{name}: the accounts do not reconcile: {a}")


def compare(recordings, taps, ways):
    """The sums of the sealed accounts against what the target's tap has counted."""
    for way in ways:
        field = TAPPED[way]
        sealed = sum(account[field] for said in recordings for account in said["accounts"])
        counted = sum(tap[way] for tap in taps)
        said = f"{way}: {sealed} bytes in the accounts, {counted} at the target's tap"
        demand(sealed == counted, f"{said}: {str(taps)[:TAPS_CHARS]}")
