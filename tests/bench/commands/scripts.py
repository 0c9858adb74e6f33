"""What is typed: actions with the commands that they are meant to run.

An action is a list of steps and a list of intended commands. All is drawn from a seed.
"""
ENTER, TAB, UP, DOWN, LEFT, HOME, END = b"\r", b"\t", b"\x1b[A", b"\x1b[B", b"\x1b[D", b"\x01", b"\x05"
CTRL_C, CTRL_D, CTRL_L, CTRL_R, CTRL_U, CTRL_W, BACK = b"\x03", b"\x04", b"\x0c", b"\x12", b"\x15", b"\x17", b"\x7f"

WORDS = "alpha bravo charlie delta echo1 foxtrot golf hotel india juliet kilo lima mike november oscar papa quebec".split()
PLAIN = [
    "ls -l", "uname -a", "id", "date +%s", "cat /etc/hostname", "wc -l /etc/passwd", "head -n 3 /etc/passwd", "df -h /tmp",
    "echo {w} {w}", "printf '%s\\n' {w} {w}", "test -d /tmp && echo {w}", "grep -c root /etc/passwd", "true", "false", "pwd",
    "ls /etc | head -n 4", "cd /tmp", "cd /var/log", "cd", "sort /etc/passwd | tail -n 2", "echo \"{w} {w}\" | tr a-z A-Z",
    "env | grep -c PATH", "seq 1 5", "touch {w}.txt", "rm -f {w}.txt", "echo {n} > /dev/null", "expr {n} + {n}", "sleep 0.05",
    "find /etc -maxdepth 1 -name 'host*'", "tail -n 1 /etc/group", "stat -c %s /etc/passwd", "cut -d: -f1 /etc/passwd | head -n 2",
    "ls --color=always /etc | head -n 3", "echo 'a  b' | wc -c", "du -s /etc/apt", "which ls", "basename /usr/bin/{w}",
]
WIDE = ["echo 你好 世界", "echo grüße aus köln", "echo こんにちは", "printf '%s\\n' 한국어 {w}", "echo naïve café"]


class Draw:
    def __init__(self, rng):
        self.rng = rng

    def text(self, pattern):
        while "{" in pattern and ("{w}" in pattern or "{n}" in pattern):
            pattern = pattern.replace("{w}", self.rng.choice(WORDS), 1).replace("{n}", str(self.rng.randrange(10, 9999)), 1)
        return pattern

    def plain(self, from_=PLAIN):
        return self.text(self.rng.choice(from_))


def line(text):
    return [("type", text), ("key", ENTER), ("wait",)]


def shell(draw, kind, cols, resize, secrets, lookalike):
    """A session in a shell: `kind` is bash, zsh, fish, dash or busybox."""
    rng, acts = draw.rng, []
    rich = kind in ("bash", "zsh", "fish")
    edits = kind != "dash"

    def add(steps, *commands):
        acts.append((steps, list(commands)))

    def plain():
        text = draw.plain()
        add(line(text), text)

    def rubbed():
        text = draw.plain()
        cut = rng.randrange(1, len(text))
        add([("type", text[:cut] + "xyz"), ("key", BACK), ("key", BACK), ("key", BACK), ("type", text[cut:]), ("key", ENTER), ("wait",)], text)

    def inserted():
        text = f"echo {rng.choice(WORDS)} {rng.choice(WORDS)}"
        add([("type", "ech " + text[5:]), ("key", HOME), ("key", b"\x1b[C" * 3), ("type", "o"), ("key", ENTER), ("wait",)], text)

    def leftwards():
        a, b = rng.choice(WORDS), rng.choice(WORDS)
        add([("type", f"echo {a}"), ("key", LEFT * len(a)), ("type", f"{b} "), ("key", END), ("key", ENTER), ("wait",)], f"echo {b} {a}")

    def killed():
        text = draw.plain()
        add([("type", draw.plain()), ("key", CTRL_U), ("type", text), ("key", ENTER), ("wait",)], text)

    def worded():
        a, b = rng.choice(WORDS), rng.choice(WORDS)
        add([("type", f"echo {a}"), ("key", CTRL_W), ("type", b), ("key", ENTER), ("wait",)], f"echo {b}")

    def again():
        text = draw.plain()
        add(line(text), text)
        add([("key", UP), ("wait",), ("key", ENTER), ("wait",)], text)

    def again_edited():
        text = f"echo {rng.choice(WORDS)}"
        more = f" {rng.choice(WORDS)}"
        add(line(text), text)
        add([("key", UP), ("wait",), ("type", more), ("key", ENTER), ("wait",)], text + more)

    def twice_back():
        a, b = draw.plain(), draw.plain()
        add(line(a), a)
        add(line(b), b)
        if a != b:
            add([("key", UP), ("pause", 0.02), ("key", UP), ("wait",), ("key", ENTER), ("wait",)], a)

    def completed():
        name = f"zq{rng.choice(WORDS)}{rng.randrange(100, 999)}"
        add(line(f"touch /tmp/{name}"), f"touch /tmp/{name}")
        add([("type", f"ls /tmp/{name[:-2]}"), ("key", TAB), ("wait",), ("key", ENTER), ("wait",)], f"ls /tmp/{name}")
        add(line(f"rm -f /tmp/{name}"), f"rm -f /tmp/{name}")

    def listed():
        """Completion that shows a list first."""
        add([("type", "ls /etc/pa"), ("key", TAB), ("wait",), ("key", TAB), ("wait",), ("key", CTRL_U), ("pause", 0.05), ("type", "ls /etc/passwd"),
             ("key", ENTER), ("wait",)], "ls /etc/passwd")

    def searched():
        mark = f"{rng.choice(WORDS)}{rng.randrange(1000, 9999)}"
        add(line(f"echo {mark} one"), f"echo {mark} one")
        plain()
        # fish searches with what is typed already.
        steps = [("type", mark), ("key", UP)] if kind == "fish" else [("key", CTRL_R), ("wait",), ("type", mark)]
        add([*steps, ("wait",), ("key", ENTER), ("wait",)], f"echo {mark} one")

    def aborted():
        add([("type", draw.plain()), ("key", CTRL_C), ("wait",)])

    def empty():
        add([("key", ENTER), ("wait",)])

    def long():
        text = "echo " + " ".join(rng.choice(WORDS) for _ in range(2 + cols * 2 // 6))
        add(line(text), text)

    def exact_width():
        """Blanks where the row ends."""
        text = "echo " + " ".join("abcd"[:rng.randrange(1, 5)] for _ in range(cols // 2))
        add(line(text), text)

    def wide():
        text = draw.plain(WIDE)
        add(line(text), text)

    def loop():
        word = rng.choice(WORDS)
        if kind == "fish":
            lines = ["for i in 1 2", f"echo $i {word}", "end"]
        else:
            lines = ["for i in 1 2; do", f"echo $i {word}", "done"]
        add([step for part in lines for step in line(part)], "\n".join(lines))

    def heredoc():
        lines = ["cat <<EOF", f"{rng.choice(WORDS)} {rng.choice(WORDS)}", "  indented", "EOF"]
        add([step for part in lines for step in line(part)], "\n".join(lines))

    def backslash():
        lines = ["echo one \\", f"{rng.choice(WORDS)}"]
        add([step for part in lines for step in line(part)], "\n".join(lines))

    def quoted():
        lines = ["echo 'first", f"second {rng.choice(WORDS)}'"]
        add([step for part in lines for step in line(part)], "\n".join(lines))

    def pasted():
        texts = [draw.plain() for _ in range(3)]
        # In brackets it is one command of three lines, and waits for an Enter.
        add([("paste", "\n".join(texts)), ("wait",), ("key", ENTER), ("wait", 0.25)], *(["\n".join(texts)] if rich else texts))

    def pasted_one():
        text = draw.plain()
        add([("paste", text), ("wait",), ("key", ENTER), ("wait",)], text)

    def ahead():
        a, b = draw.plain(), draw.plain()
        add([("type", "sleep 0.4"), ("key", ENTER), ("pause", 0.1), ("type", a), ("key", ENTER), ("type", b), ("key", ENTER), ("wait", 0.7)],
            "sleep 0.4", a, b)

    def quick():
        """The next line right behind the Enter."""
        a, b = draw.plain(), draw.plain()
        add([("type", a), ("key", ENTER), ("type", b), ("key", ENTER), ("wait", 0.25)], a, b)

    def secret():
        word = f"S3cr{rng.randrange(10**6, 10**7)}"
        secrets.append(word)
        command = "read -s x" if kind in ("bash", "fish") else "read -rs x" if kind == "zsh" else None
        if command:
            add([("type", command), ("key", ENTER), ("wait",), ("type", word), ("key", ENTER), ("wait",)], command)

    def answered():
        add([("type", "read answer"), ("key", ENTER), ("wait",), ("type", "perhaps"), ("key", ENTER), ("wait",)], "read answer")

    def data():
        add([("type", "cat > /dev/null"), ("key", ENTER), ("till", "cat"), ("wait",), ("type", rng.choice(WORDS)), ("key", ENTER),
             ("type", rng.choice(WORDS)), ("key", ENTER), ("pause", 0.05), ("leave", "cat", [("key", CTRL_D)]), ("wait",)], "cat > /dev/null")

    def paged():
        add([("type", "less /etc/services"), ("key", ENTER), ("till", "less"), ("wait", 0.2), ("key", b" "), ("pause", 0.05), ("key", b"j"),
             ("pause", 0.05), ("key", ENTER), ("pause", 0.05), ("leave", "less", [("key", b"q")]), ("wait", 0.2)], "less /etc/services")

    def edited():
        add([("type", "vi /tmp/zqnone"), ("key", ENTER), ("till", "vi"), ("wait", 0.3), ("type", "ihello"), ("key", ENTER), ("type", "$ ls"),
             ("key", ENTER), ("leave", "vi", [("key", b"\x1b"), ("wait", 0.2), ("type", ":q!"), ("key", ENTER)]), ("wait", 0.3)], "vi /tmp/zqnone")

    def no_newline():
        text = f"printf {rng.choice(WORDS)}"
        add(line(text), text)
        plain()

    def cleared():
        add([("key", CTRL_L), ("wait",)])
        plain()

    def clear_typed():
        add([("type", "echo "), ("key", CTRL_L), ("wait",), ("type", "after"), ("key", ENTER), ("wait",)], "echo after")

    def seen_before():
        text = f"printf '%s\\n' '{lookalike}rm -rf /nowhere'"
        add(line(text), text)

    def flood():
        add(line("seq 1 3000"), "seq 1 3000")

    def resized():
        word = rng.choice(WORDS)
        sizes = [(100, 30), (60, 20), (cols, 24)]
        add([("type", f"echo {word} be"), ("size", rng.choice(sizes)), ("wait",), ("type", "fore"), ("key", ENTER), ("wait",)], f"echo {word} before")

    every = [plain, plain, plain, rubbed, empty, long, exact_width, wide, loop, backslash, quoted, pasted_one, quick, answered, data, paged, edited,
             no_newline, seen_before, flood, aborted, killed]
    if kind != "fish":
        every += [heredoc]
    if kind != "dash":
        every += [pasted, ahead]
    else:
        every += [ahead]
    if edits:
        every += [inserted, leftwards, worded, again, again_edited, twice_back, completed, cleared, clear_typed]
    if rich:
        every += [listed, searched, secret]
    if resize:
        every += [resized] * 4
    rng.shuffle(every)
    plain()
    for make in every:
        make()
    plain()
    return acts


REPLS = {
    "python": ["1 + {n}", "x = '{w}'", "print('{w}', {n})", "import os", "os.getcwd()", "[i for i in range({n} % 7)]", "len('{w}')", "sum(range({n}))",
               "'{w}'.upper()", "{n} * {n}", "print('>>> not a prompt')"],
    "node": ["1 + {n}", "let x{n} = '{w}'", "console.log('{w}', {n})", "[1,2,{n}].map(x => x * 2)", "'{w}'.length", "Math.max({n}, {n})",
             "JSON.stringify({a: {n}})", "typeof '{w}'"],
    "psql": ["select {n};", "select '{w}' as a, {n} as b;", "select count(*) from pg_class;", "select generate_series(1, 3);", "show server_version;",
             "select upper('{w}');"],
    "mysql": ["select {n};", "select '{w}' as a, {n} as b;", "select count(*) from information_schema.tables;", "show databases;", "select upper('{w}');",
              "select now();"],
    "sqlite": ["select {n};", "select '{w}' as a, {n} as b;", "create table if not exists {w}(a, b);", "select upper('{w}');", "select 1 where 0;",
               "select sqlite_version();"],
    "redis": ["ping", "set {w} {n}", "get {w}", "incr counter", "lpush {w}list {n}", "keys *", "echo {w}", "del {w}"],
}
MANY_ROWS = {
    "python": [["for i in range(2):", "    print(i)", ""], ["def f(x):", "    return x + {n}", ""], ["y = [1,", "     {n}]"]],
    "node": [["[1, 2].map(x => {", "return x + {n}", "})"]],
    "psql": [["select {n},", "'{w}'", ";"], ["select (1 +", "{n});"]],
    "mysql": [["select {n},", "'{w}'", ";"], ["select 'a", "{w}';"]],
    "sqlite": [["select {n},", "'{w}'", ";"], ["select (1 +", "{n});"]],
    "redis": [],
}
QUIT = {"python": "exit()", "node": ".exit", "psql": "\\q", "mysql": "quit", "sqlite": ".quit", "redis": "quit"}


def repl(draw, kind, cols):
    """A session in a program with a prompt of its own."""
    rng, acts = draw.rng, []

    def plain():
        text = draw.plain(REPLS[kind])
        acts.append((line(text), [text]))

    def rubbed():
        text = draw.plain(REPLS[kind])
        cut = rng.randrange(1, len(text))
        acts.append(([("type", text[:cut] + "qq"), ("key", BACK), ("key", BACK), ("type", text[cut:]), ("key", ENTER), ("wait",)], [text]))

    def again():
        text = draw.plain(REPLS[kind])
        acts.append((line(text), [text]))
        acts.append(([("key", UP), ("wait",), ("key", ENTER), ("wait",)], [text]))

    def many():
        if MANY_ROWS[kind]:
            lines = [draw.text(part) for part in rng.choice(MANY_ROWS[kind])]
            acts.append(([step for part in lines for step in line(part)], ["\n".join(lines)]))

    def quick():
        a, b = draw.plain(REPLS[kind]), draw.plain(REPLS[kind])
        acts.append(([("type", a), ("key", ENTER), ("type", b), ("key", ENTER), ("wait", 0.25)], [a, b]))

    def long():
        words = " ".join(rng.choice(WORDS) for _ in range(cols // 4))
        text = {"python": f"x = '{words}'", "node": f"'{words}'.length", "redis": f"set long \"{words}\""}.get(kind, f"select '{words}';")
        acts.append((line(text), [text]))

    def empty():
        acts.append(([("key", ENTER), ("wait",)], []))

    every = [plain] * 10 + [rubbed] * 3 + [again] * 2 + [many] * 3 + [quick] * 2 + [long] * 2 + [empty]
    rng.shuffle(every)
    for make in every:
        make()
    return acts
