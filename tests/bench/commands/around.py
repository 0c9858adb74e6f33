"""What a shell runs inside of: tmux, screen, sudo, ssh. Each is started by typing in an outer bash."""
import os, pathlib, shlex, shutil, socket, subprocess, time

import programs, scripts


class Outer:
    def __init__(self, folder, kinds):
        self.folder, self.kinds, self.sshd = pathlib.Path(folder), kinds, None

    def __enter__(self):
        self.folder.mkdir(parents=True)
        if "ssh" in self.kinds:
            self.listen()
        return self

    def __exit__(self, *_):
        if self.sshd:
            self.sshd.terminate()
            self.sshd.wait(10)

    def listen(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        for name in ("host", "id"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name], check=True)
        config = self.folder / "sshd_config"
        config.write_text(f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.folder}/host\nAuthorizedKeysFile {self.folder}/id.pub\nStrictModes no\nUsePAM no\n"
                          f"PidFile none\nPermitRootLogin yes\nPrintMotd no\nMaxStartups 100\n")
        os.makedirs("/run/sshd", exist_ok=True)
        self.sshd = subprocess.Popen([shutil.which("sshd", path="/usr/sbin:/usr/bin"), "-D", "-f", config], stderr=subprocess.DEVNULL)
        time.sleep(0.5)

    def around(self, what, folder, place, kind):
        """Program, environment, what is typed before and after."""
        outer = programs.Place(folder / "outer", "bash", "plain")
        inner = " ".join(f"{name}={shlex.quote(value)}" for name, value in place.env.items() if name in ("HOME", "TOLD", "LANG", "LC_ALL", "ZDOTDIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME"))
        start = folder / "inner"
        start.write_text(f"#!/bin/sh\nexport {inner}\nexec {shlex.join(place.argv)}\n")
        start.chmod(0o755)
        typed, leave = getattr(self, what)(folder, start, kind)
        enter = [("type", typed), ("key", scripts.ENTER), ("till", kind), ("wait", 0.8)]
        return outer.argv, outer.env, [enter], [*leave, [("type", "exit"), ("key", scripts.ENTER), ("wait",)]]

    def end(self, what, folder):
        """Ends what did not end with its client."""
        if what == "tmux":
            subprocess.run(["tmux", "-S", folder / "sock", "kill-server"], stderr=subprocess.DEVNULL)
        if what == "screen":
            places = os.environ | {"SCREENDIR": str(folder / "screens")}
            for place in (folder / "screens").iterdir():
                subprocess.run(["screen", "-S", place.name, "-X", "quit"], env=places, stdout=subprocess.DEVNULL)

    LEAVE = [[("type", "exit"), ("key", scripts.ENTER), ("wait", 0.3)]]

    def tmux(self, folder, start, kind):
        config = folder / "tmux.conf"
        config.write_text(f"set -g default-command {start}\nset -g default-terminal screen-256color\nset -s escape-time 20\n")
        return f"tmux -S {folder}/sock -f {config}", self.LEAVE

    def screen(self, folder, start, kind):
        config = folder / "screenrc"
        config.write_text(f"startup_message off\nterm screen-256color\ndefutf8 on\n")
        return f"SCREENDIR={self.private(folder)} screen -c {config} -U {start}", self.LEAVE

    def private(self, folder):
        path = folder / "screens"
        path.mkdir(mode=0o700)
        return path

    def sudo(self, folder, start, kind):
        # A login shell by way of a helper in place of root's own settings.
        return f"sudo -s {start}", self.LEAVE

    def ssh(self, folder, start, kind):
        config = folder / "ssh_config"
        config.write_text(f"Host db2\n HostName 127.0.0.1\n Port {self.port}\n User root\n IdentityFile {self.folder}/id\n IdentitiesOnly yes\n"
                          f" StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n LogLevel ERROR\n RequestTTY yes\n RemoteCommand {start}\n")
        return f"ssh -F {config} db2", self.LEAVE
