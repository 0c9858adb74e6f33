"""Stands in for `ssh` in OpenSSH's tests: leads what would reach the test's sshd through the gate.

What the test's own command line and configuration say stays in force, save for what makes the way: address, login,
certificate and, where the test names a kind of host key, who checks it. A connection that goes elsewhere (into a
forwarded port, over a control socket) goes as it is.
"""
import fcntl
import hashlib
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

SSH = "/usr/bin/ssh"
RELOAD_SECS = 10
OPTIONS_WITH_VALUE = "bceilmopBDEFIJLOQRSWw"
# src/ssh/algorithms.rs, in OpenSSH's words.
OFFERED = {
    "cipher": ("chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com", "aes128-gcm@openssh.com"),
    "kex": ("mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org"),
    "mac": ("hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com"),
    "key-plain": ("ssh-ed25519",),
}
OFFERED["cipher-auth"] = OFFERED["cipher"]


class House:
    def __init__(self, path):
        for name, value in json.loads(pathlib.Path(path).read_text()).items():
            setattr(self, name, value)
        self.root, self.obj = pathlib.Path(self.root), pathlib.Path(self.obj)

    def log(self, *words):
        with open(self.root / "through.log", "a") as log:
            log.write(" ".join(map(str, words)) + "\n")

    def portcullis(self, *args):
        args = [f"{self.bin}/portcullis", *map(str, args), "--state", self.state]
        done = subprocess.run(args, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            self.log("FAILED", shlex.join(args), done.stderr)
            sys.exit(f"portcullis: {done.stderr}")

    def target(self, kind, config):
        """The target's name in the inventory and its host key: the one that the test's sshd has now."""
        public = subprocess.run(["ssh-keygen", "-y", "-f", host_key(config)], capture_output=True, text=True, check=True).stdout
        name = f"{kind}-{hashlib.sha256(public.encode()).hexdigest()[:8]}"
        pinned = self.root / f"{name}.pub"
        with open(self.root / "inventory.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not pinned.exists():
                made = pinned.with_suffix(".new")
                made.write_text(public)
                port = self.proxy_port if kind == "proxy" else self.sshd_port
                more = []
                if self.test.get("login") == "key":
                    # The harness's own key, which the test's authorized_keys say things about.
                    shutil.copy(self.obj / "ssh-ed25519", self.root / "secrets" / f"root@{name}")
                    more = ["--credential", "harness:key"]
                self.portcullis("target", "add", *more, name, "--addr", f"127.0.0.1:{port}", "--login", "root", "--host-key", made)
                made.rename(pinned)
        return name, public

    def announce(self, config):
        """What the test's sshd would show before a login is the gate's to show: by a reload, where it changes."""
        file = setting(config, "Banner")
        if file is None:
            return
        text = pathlib.Path(file).read_text() if os.path.exists(file) else ""
        gate = pathlib.Path(self.state) / "config.toml"
        log = self.root / "serve.err"
        with open(self.root / "inventory.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # A JSON string of plain text is a TOML one.
            said = f"banner = {json.dumps(text)}"
            lines = gate.read_text().splitlines()
            changed = [said if line.lstrip("#").startswith("banner = ") else line for line in lines]
            if changed == lines:
                return
            before = log.read_text(errors="replace").count("reloaded")
            gate.write_text("\n".join(changed) + "\n")
            os.kill(self.gate_pid, signal.SIGHUP)
            end = time.monotonic() + RELOAD_SECS
            while log.read_text(errors="replace").count("reloaded") == before:
                if time.monotonic() > end:
                    sys.exit("the gate does not reload")
                time.sleep(0.02)

    def certificate(self, identity, target):
        """A certificate for the test's own key, made when it is first needed."""
        public = pathlib.Path(f"{identity}.pub").read_text()
        made = self.root / f"{target}-{hashlib.sha256(public.encode()).hexdigest()[:8]}-cert.pub"
        with open(self.root / "inventory.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                part = self.root / "part-cert.pub"
                self.portcullis("grant", "issue", "--identity", "alice", "--for", "1h", "--reason", "regress", "--allow",
                                "shell,exec,sftp,forward,agent", "--public-key", f"{identity}.pub", "--out", part,
                                f"root@{target}")
                part.rename(made)
        return made


def host_key(config):
    """The host key of a server's configuration: the first, ed25519 before others."""
    words = (line.replace("=", " ").split() for line in pathlib.Path(config).read_text().splitlines())
    keys = [line[1] for line in words if len(line) == 2 and line[0].lower() == "hostkey"]
    return next((key for key in keys if key.endswith("ed25519")), keys[0])


def setting(config, name):
    """A setting of a server's configuration."""
    for line in pathlib.Path(config).read_text().splitlines():
        word, _, value = line.strip().partition(" ")
        if word.lower() == name.lower():
            return value.strip()
    return None


def parsed(argv):
    """ssh's options as (letter, value), and where the first of each letter stands. Options may follow the host."""
    found, at, host = [], 0, None
    while at < len(argv):
        word = argv[at]
        if word == "--" or not word.startswith("-") or word == "-":
            if host is not None or word == "--":
                break
            host = word
            at += 1
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in OPTIONS_WITH_VALUE:
                if not letters:
                    at += 1
                    found.append((letter, argv[at] if at < len(argv) else "", at, ""))
                else:
                    found.append((letter, letters, at, word[: len(word) - len(letters)]))
                break
            found.append((letter, None, at, ""))
        at += 1
    return found, host


def queried(house, what):
    """`ssh -Q`: what both the client and the gate can do, so that a test tries just these."""
    said = subprocess.run([SSH, "-Q", what], capture_output=True, text=True)
    known = said.stdout.split()
    offered = house.test.get("offer", {}).get(what, OFFERED.get(what))
    if offered is not None:
        known = [name for name in known if name in offered]
    print("\n".join(known))
    sys.exit(said.returncode)


def certified(algorithms):
    """Kinds of key with their certificates: a client that may not use the one drops the other."""
    names = [name for name in algorithms.split(",") if "cert" not in name]
    return ",".join([name.replace("@openssh.com", "") + "-cert-v01@openssh.com" for name in names] + names)


def identity(house, meant):
    """The user's key of a connection: a file without its .pub, which the agent may hold instead."""
    for file in meant.get("identityfile", ()):
        file = file.removesuffix(".pub")
        if file != f"{house.obj}/ssh-ed25519" and os.path.exists(f"{file}.pub") and certifiable(file):
            return file
    if os.environ.get("SSH_AUTH_SOCK") and f"{house.obj}/ssh-ed25519" not in meant.get("identityfile", ()):
        held = subprocess.run(["ssh-add", "-L"], capture_output=True, text=True).stdout.splitlines()
        if held:
            name = f"{house.root}/agent-{hashlib.sha256(held[0].encode()).hexdigest()[:8]}"
            pathlib.Path(f"{name}.pub").write_text(held[0] + "\n")
            return name
    return f"{house.root}/user"


def certifiable(file):
    """The gate certifies no RSA key below 3072 bits."""
    bits, *_, kind = subprocess.run(["ssh-keygen", "-lf", f"{file}.pub"], capture_output=True, text=True).stdout.split()
    return kind != "(RSA)" or int(bits) >= 3072


def way(house, meant):
    """Which of the test's servers a connection means, and the ProxyCommand with it (None: elsewhere)."""
    proxy = meant.get("proxycommand", ["none"])[0]
    words = proxy.split()
    if "-i" in words and "-f" in words and any(word.endswith("sshd") for word in words):
        config = words[words.index("-f") + 1]
        if config != f"{house.obj}/sshd_proxy":
            return None
        # What the test does to the bytes between client and server it does between client and gate.
        rest = proxy.partition("|")[2]
        return "proxy", config, f"{house.obj}/netcat 127.0.0.1 {house.ssh_port} | {rest}" if rest else "none"
    here = meant["hostname"][0] in ("127.0.0.1", "::1", "localhost") and meant["port"][0] == str(house.sshd_port)
    if here and (proxy == "none" or words[1:] == ["%h", "%p"]):
        return "main", f"{house.obj}/sshd_config", proxy
    return None


def jumping(house, argv, target, key, certificate, proxy):
    """`ssh -J outer`: a configuration that says who outer is, and includes the test's own for everybody else."""
    given = next((value for letter, value, *_ in parsed(argv)[0] if letter == "F"), "none")
    outer = "\n  ".join((
        "Host outer", "Hostname 127.0.0.1", f"Port {house.ssh_port}", "User somebody", f"IdentityFile {key}",
        f"CertificateFile {certificate}", "IdentitiesOnly yes", "BatchMode yes", "StrictHostKeyChecking yes",
        f"UserKnownHostsFile {house.root}/known_hosts", "GlobalKnownHostsFile none"))
    text = f"{outer}\n" + (f"Host * !outer\n  Include {given}\n" if given != "none" else "")
    made = house.root / f"jump-{hashlib.sha256(text.encode()).hexdigest()[:8]}.conf"
    part = made.with_suffix(f".{os.getpid()}")
    part.write_text(text)
    part.rename(made)
    # The name is what the inner server's certificate is for.
    first = {"Hostname": target, "HostKeyAlias": target, "Port": 22, "User": "root",
             "HostKeyAlgorithms": "ssh-ed25519-cert-v01@openssh.com", "GlobalKnownHostsFile": house.root / "known_hosts"}
    if "|" in proxy:
        first["ProxyCommand"] = f"{SSH} -F {made} -W [%h]:%p outer |" + proxy.partition("|")[2]
    else:
        first["ProxyJump"] = "outer"
    return first, reconfigured(argv, made)


def reconfigured(argv, config):
    """The same command line with another configuration."""
    argv = list(argv)
    for letter, _, at, before in parsed(argv)[0]:
        if letter == "F":
            argv[at] = f"{before}{config}"
            return argv
    return ["-F", str(config), *argv]


def led(house, argv):
    """The command line that goes through the gate."""
    options, _ = parsed(argv)
    letters = {letter for letter, *_ in options}
    if letters & set("GVO"):
        return argv
    argv = list(argv)
    for letter, value, at, before in options:
        # broken-pipe names a configuration that nobody wrote; then it would never connect.
        if letter == "F" and value != "none" and not os.path.exists(value):
            argv[at] = before + f"{house.obj}/ssh_proxy"
    said = subprocess.run([SSH, "-G", *argv], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if said.returncode != 0:
        return argv
    meant = {}
    for line in said.stdout.splitlines():
        name, _, value = line.partition(" ")
        meant.setdefault(name, []).append(value)
    found = way(house, meant)
    if found is None:
        # A connection into a forwarded port, or to a control socket.
        house.log("as it is", shlex.join(argv))
        return argv
    kind, config, proxy = found
    house.announce(config)
    target, shown = house.target(kind, config)
    key = identity(house, meant)
    certificate = house.certificate(key, target)
    if house.form == "jump":
        way_in, argv = jumping(house, argv, target, key, certificate, proxy)
    else:
        way_in = {"Hostname": "127.0.0.1", "Port": house.ssh_port, "User": f"root@{target}", "ProxyCommand": proxy}
    first = {
        **way_in, "IdentityFile": key, "CertificateFile": certificate, "IdentitiesOnly": "yes",
        "PubkeyAcceptedAlgorithms": certified(meant["pubkeyacceptedalgorithms"][0] if key != f"{house.root}/user" else "ssh-ed25519"),
    }
    limit = setting(config, "RekeyLimit")
    if limit and meant["rekeylimit"] == ["0 0"]:
        # The test's sshd asks for new keys of the gate; on the client's own leg the client asks.
        first["RekeyLimit"] = limit
    if house.form != "jump" and shown.split()[1] not in pathlib.Path(f"{house.obj}/ssh-ed25519.pub").read_text():
        # A host key that the test has made is the target's to show and the gate's to check.
        first |= {"HostKeyAlgorithms": "ssh-ed25519", "GlobalKnownHostsFile": house.root / "known_hosts"}
    house.log("led", target, shlex.join(argv))
    return [word for name, value in first.items() for word in ("-o", f"{name}={value}")] + argv


def main():
    house = House(sys.argv[1])
    argv = sys.argv[2:]
    options, _ = parsed(argv)
    for letter, value, *_ in options:
        if letter == "Q":
            queried(house, value)
    os.execv(SSH, [SSH, *led(house, argv)])


if __name__ == "__main__":
    main()
