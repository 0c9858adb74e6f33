"""The programs under test: how each is started, what its prompts look like, and where it tells what it ran.

The last is the second level of truth: it is written at the target, where no recorder sees it.
"""
import base64, json, os, pathlib, re, shlex, shutil, socket, subprocess, time

ENV = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "USER": "root", "LOGNAME": "root", "PAGER": "less", "LESS": "",
       "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

# Prompts by shell; `none` shows nothing at all.
PROMPTS = {
    "bash": {
        "plain": r"PS1='\u@db1:\w\$ '",
        "two-line": r"PS1='\n┌─[\u@db1:\w]\n└─\$ '",
        "rprompt": r"PS1='\[\e7\e[999C\e[9D[db1 ok]\e8\]\w \$ '",
        "right-trim": r"PS1='db1\$'",
        "coloured": r"PS1='\[\e[1;32m\]\u@db1\[\e[0m\]:\[\e[1;34m\]\w\[\e[0m\]\$ '",
        "none": "PS1=''",
    },
    "zsh": {
        "plain": "PROMPT='%n@db1:%~%# '",
        "two-line": "PROMPT=$'\\n┌─[%n@db1:%~]\\n└─%# '",
        "rprompt": "PROMPT='%n@db1 %# '; RPROMPT='%~ [%*]'",
        "right-trim": "PROMPT='db1%#'",
        "coloured": "PROMPT='%B%F{green}%n@db1%f%b:%F{blue}%~%f%# '",
        "none": "PROMPT=''",
    },
    "fish": {
        "plain": "function fish_prompt; echo -n (whoami)@db1 (prompt_pwd)'> '; end",
        "two-line": "function fish_prompt; echo; echo '┌─['(whoami)'@db1:'(prompt_pwd)']'; echo -n '└─> '; end",
        "rprompt": "function fish_prompt; echo -n 'db1> '; end; function fish_right_prompt; prompt_pwd; end",
        "right-trim": "function fish_prompt; echo -n 'db1>'; end",
        "coloured": "function fish_prompt; set_color green; echo -n (whoami)@db1; set_color blue; echo -n ' '(prompt_pwd); set_color normal; echo -n '> '; end",
        "none": "function fish_prompt; end",
    },
    "dash": {"plain": "PS1='db1$ '", "coloured": "PS1=$(printf '\\033[32mdb1\\033[0m# ')", "none": "PS1=''"},
    "busybox": {"plain": r"PS1='\u@db1:\w\$ '", "right-trim": "PS1='db1#'", "coloured": r"PS1='\[\e[32m\]db1:\w\[\e[0m\]\$ '", "none": "PS1=''"},
}
# A line of output that looks like the prompt.
LOOKALIKE = {"plain": "root@db1:~# ", "two-line": "└─# ", "rprompt": "root@db1 # ", "right-trim": "db1#", "coloured": "root@db1:/tmp# ", "none": ""}
END = "\x1e"


class Place:
    """One session's folder at the target: settings, home, and the file of what ran."""

    def __init__(self, folder, kind, prompt):
        self.folder, self.kind = pathlib.Path(folder), kind
        self.home, self.told = self.folder / "home", self.folder / "told"
        self.home.mkdir(parents=True)
        self.told.touch()
        self.env = ENV | {"HOME": str(self.home), "TOLD": str(self.told)}
        self.argv = getattr(self, f"start_{kind}")(PROMPTS[kind][prompt])

    def write(self, name, text):
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    def start_bash(self, prompt):
        # PS0 is expanded between reading a command and running it.
        rc = self.write("bashrc", "shopt -s cmdhist lithist checkwinsize; HISTCONTROL=; HISTIGNORE=; HISTFILE=; HISTSIZE=5000\n"
                        "told() { HISTTIMEFORMAT= builtin history 1 | sed '1s/^ *[0-9]*\\*\\? *//' >> \"$TOLD\"; printf '\\036' >> \"$TOLD\"; }\n"
                        f"PS0='$(told)'\n{prompt}\n")
        return ["bash", "--rcfile", rc, "-i"]

    def start_zsh(self, prompt):
        self.write(".zshrc", f"HISTSIZE=5000; setopt interactivecomments; unsetopt beep; autoload -Uz compinit; compinit -u -d $HOME/.zcompdump\nbindkey -e\n"
                   f"preexec() {{ print -rn -- \"$1\" >> $TOLD; printf '\\036' >> $TOLD }}\n{prompt}\n")
        self.env["ZDOTDIR"] = str(self.home)
        return ["zsh", "-i"]

    def start_fish(self, prompt):
        self.write(".config/fish/config.fish", "set -g fish_greeting\nfunction told --on-event fish_preexec; printf '%s\\036' \"$argv[1]\" >> $TOLD; end\n" + prompt + "\n")
        # A home that is there already: else fish reads every manual page of the machine at its first start.
        (self.home / ".local/fish/generated_completions").mkdir(parents=True)
        self.env["XDG_CONFIG_HOME"], self.env["XDG_DATA_HOME"] = str(self.home / ".config"), str(self.home / ".local")
        return ["fish", "-i"]

    def start_dash(self, prompt):
        self.env["ENV"] = self.write("dashrc", prompt + "\n")
        # What dash reads, as the kernel sees it.
        return ["strace", "-qq", "-e", "trace=read,dup2,fcntl", "-e", "read=none", "-s", "8192", "-xx", "-o", str(self.told), "dash", "-i"]

    def start_busybox(self, prompt):
        # Its prompt is expanded after each command.
        tell = "$(history | tail -n 6 >> $TOLD; echo -ne '\\x1e' >> $TOLD)"
        self.env["ENV"] = self.write("ashrc", f'{prompt}\nPS1="{tell.replace("$", chr(92) + "$")}$PS1"\n')
        return ["busybox", "ash", "-i"]

    def hooked(self, launch):
        """The login shell as the gate starts it where policy asks for the hook. What it says to the bench is another hook, and goes to a file."""
        if self.kind == "bash":
            # As a distribution's own settings may have it: the history leaves out what is repeated.
            self.write(".bash_profile", f". {self.home}/bashrc; HISTCONTROL=ignoreboth\n")
        shell = shutil.which(self.kind, path="/usr/bin:/bin")
        self.env["SHELL"] = shell
        self.argv = [shell, "-c", launch]

    def ran(self):
        """What the shell says it ran, in order."""
        text = self.told.read_bytes().decode(errors="replace")
        if self.kind == "busybox":
            return overlaid([[row.strip().partition(" ")[2].strip() for row in last.splitlines()] for last in text.split(END)])
        if self.kind != "dash":
            return [one.strip("\n") for one in text.split(END) if one.strip()]
        lines = []
        for hexed in re.findall(r'^read\((?:0|1\d), "((?:\\x[0-9a-f]{2})*)"', text, re.M):
            lines.append(bytes.fromhex(hexed.replace("\\x", "")).decode(errors="replace").rstrip("\n"))
        return [one for one in lines if one.strip()]


def overlaid(lasts):
    """One run of lines, from what were its last lines again and again."""
    whole = []
    for last in lasts:
        same = next(n for n in range(len(last), -1, -1) if last[:n] == whole[len(whole) - n:])
        whole += last[same:]
    return whole


class Servers:
    """The databases that clients talk to, each with its own log of what it was asked."""

    def __init__(self, folder):
        self.folder, self.running = pathlib.Path(folder), []
        self.folder.mkdir(parents=True, exist_ok=True)

    def port(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    def spawn(self, argv, **how):
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=how.pop("stdout", subprocess.DEVNULL), stderr=subprocess.STDOUT, **how)
        self.running.append(process)
        return process

    def until(self, answers):
        for _ in range(300):
            if answers():
                return
            time.sleep(0.1)
        raise RuntimeError("a server does not answer")

    def psql(self):
        where = self.folder / "pg"
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir()
        shutil.chown(where, "postgres", "postgres")
        os.chmod(self.folder, 0o755)
        tools = next(iter(sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
        tool = lambda name: str(tools / name) if tools and (tools / name).exists() else shutil.which(name)
        as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]
        subprocess.run([*as_postgres, tool("initdb"), "-D", where / "data", "-A", "trust", "-E", "UTF8"], check=True, stdout=subprocess.DEVNULL, cwd="/")
        log = open(where / "log", "w")
        port = self.port()
        self.spawn([*as_postgres, tool("postgres"), "-D", where / "data", "-p", str(port), "-k", where, "-c", "log_statement=all", "-c", "log_line_prefix=@@%a ",
                    "-c", "fsync=off"], stdout=log, cwd="/")
        client = shutil.which("psql")
        self.until(lambda: subprocess.run([client, "-h", where, "-p", str(port), "-U", "postgres", "-Atc", "select 1"], capture_output=True).returncode == 0)

        def start(place, name):
            return [client, "-h", str(where), "-p", str(port), "-U", "postgres", "-X"], {"PGAPPNAME": name, "PAGER": "cat", "PSQL_HISTORY": f"{place}/history"}

        def ran(place, name):
            text = (where / "log").read_text(errors="replace")
            found = re.findall(rf"^@@{name} LOG:  statement: (.*?)(?=^@@|\Z)", text, re.M | re.S)
            return [one.strip() for one in found]
        return start, ran

    def mysql(self):
        where = self.folder / "my"
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir()
        subprocess.run(["mariadb-install-db", f"--datadir={where}/data", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"],
                       check=True, capture_output=True)
        base = [f"--socket={where}/sock"]
        self.spawn(["mariadbd", "--no-defaults", "--user=root", f"--datadir={where}/data", *base, "--skip-networking", "--general-log",
                    f"--general-log-file={where}/log", f"--pid-file={where}/pid"])
        self.until(lambda: subprocess.run(["mariadb", "--no-defaults", *base, "-uroot", "-e", "select 1"], capture_output=True).returncode == 0)

        def start(place, name):
            # The log tells connections apart by number: each names itself in its first statement.
            return ["mariadb", "--no-defaults", *base, "-uroot", f"--init-command=set @name='{name}'"], {"MYSQL_HISTFILE": f"{place}/history"}

        def ran(place, name):
            text = (where / "log").read_text(errors="replace")
            number = re.search(rf"\s(\d+) Query\tset @name='{name}'", text)
            if not number:
                return []
            found = re.findall(rf"^(?:\d{{6}} [ \d]\d:\d\d:\d\d)?\s+{number[1]} Query\t(.*?)(?=^(?:\d{{6}} [ \d]\d:|\s+\d+ [A-Z]\w+)|\Z)", text, re.M | re.S)
            return [one.strip() + ";" for one in found if "@name" not in one and "@@version_comment" not in one]
        return start, ran

    def redis(self):
        where = self.folder / "redis"
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir()
        port = self.port()
        self.spawn(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", where])
        self.until(lambda: subprocess.run(["redis-cli", "-p", str(port), "ping"], capture_output=True).returncode == 0)
        def start(place, name):
            return ["redis-cli", "-p", str(port), "-n", "0"], {"REDISCLI_HISTFILE": f"{place}/history"}

        return start, lambda place, name: history(place)

    def close(self):
        for process in reversed(self.running):
            process.terminate()
        for process in reversed(self.running):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def python():
    def start(place, name):
        path = pathlib.Path(place, "startup.py")
        path.write_text(f"import atexit, readline\natexit.register(readline.write_history_file, {place + '/history'!r})\n")
        return [shutil.which("python3", path="/usr/bin") or "python3", "-q"], {"PYTHONSTARTUP": str(path)}
    return start, lambda place, name: history(place)


def sqlite():
    return lambda place, name: (["sqlite3", f"{place}/db"], {"SQLITE_HISTORY": f"{place}/history"}), lambda place, name: history(place)


def node():
    # The file is written with the newest first.
    return lambda place, name: (["node"], {"NODE_REPL_HISTORY": f"{place}/history"}), lambda place, name: history(place)[::-1]


def history(place):
    path = pathlib.Path(place, "history")
    return [one for one in path.read_text(errors="replace").splitlines() if one.strip()] if path.exists() else []
