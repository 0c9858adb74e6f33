"""What the reader of commands finds in terminals, held against what was run.

Usage: tests/bench/run commands [--seed N] [--only WORD ...] [--quick] [--repeat N] [--keep DIR] [--failures N]

Truth has independent levels: what the script means to run, and what the target says that it ran (a hook in the shell, the
server's log, the program's history), written where the recorder does not look. A command counts only if both agree. Where
strace can be had, what was spawned is the third. Baselines read the same captures. Texts are compared with runs of
blanks as one, in order (longest common subsequence).
"""
import argparse, collections, concurrent.futures, itertools, json, os, pathlib, random, re, shlex, shutil, subprocess, sys, tempfile, time

sys.path.insert(0, str(pathlib.Path(__file__).parent / "commands"))
import programs, scripts
from session import Session

SEED = 20261122
SIZES = {"80x24": (80, 24), "200x60": (200, 60), "40x10": (40, 10), "resize": (80, 24)}
SHELLS = ("bash", "zsh", "fish", "dash", "busybox")
GOALS = {"bash": (97, 99), "zsh": (97, 99), "fish": (95, 95)}
HOOKED_GOAL, REPL_GOAL, PANE_GOAL = (99, 99), (95, 99), (90, 99)
# What they ran is known from a history that leaves out repeats.
HISTORIES = ("python", "node", "sqlite", "redis")
METHODS = ("ours", "keystrokes", "row", "between")
# Most lines of one command.
LINES_MAX = 4
# Output that the cost of reading is measured with, and how much of it follows a command, in bytes.
COST_BYTES, BURST_BYTES = 8_000_000, 20_000
# Sessions at a time.
AT_ONCE = 8


def fold(text):
    # A backslash at the end of a line joins it to the next: shells tell either form.
    return " ".join(text.replace("\\\n", "").split())


def common(left, right):
    """The longest common subsequence, as pairs of places."""
    rows = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in range(len(left) - 1, -1, -1):
        for j in range(len(right) - 1, -1, -1):
            rows[i][j] = rows[i + 1][j + 1] + 1 if left[i] == right[j] else max(rows[i + 1][j], rows[i][j + 1])
    i = j = 0
    pairs = []
    while i < len(left) and j < len(right):
        if left[i] == right[j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif rows[i + 1][j] >= rows[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def cells(only, quick):
    """(program, prompt, size, latency, around) of every session."""
    found = []
    for kind in SHELLS:
        for prompt in programs.PROMPTS[kind]:
            found.append((kind, prompt, "80x24", 0, "bare"))
        for size in ("200x60", "40x10", "resize"):
            found.append((kind, "plain", size, 0, "bare"))
        found.append((kind, "plain", "80x24", 50, "bare"))
        found.append((kind, "coloured", "80x24", 1, "bare"))
        if kind in ("bash", "zsh", "fish"):
            found += [(kind, "rprompt", size, 0, "bare") for size in ("40x10", "resize")]
            found += [(kind, "two-line", "80x24", 50, "bare")]
            found += [(kind, prompt, "80x24", 0, around) for prompt in ("plain", "two-line") for around in ("tmux", "screen")]
            found += [(kind, "plain", size, latency, "tmux") for size, latency in (("200x60", 0), ("80x24", 50))]
            found += [(kind, "plain", "80x24", 0, around) for around in ("sudo", "ssh")]
            found += [(kind, prompt, "80x24", 0, "hooked") for prompt in programs.PROMPTS[kind]]
            found += [(kind, "plain", size, latency, "hooked") for size, latency in (("40x10", 0), ("resize", 0), ("80x24", 50), ("80x24", 1))]
    for kind in scripts.REPLS:
        found.append((kind, "own", "80x24", 0, "bare"))
        if not quick:
            found += [(kind, "own", "40x10", 0, "bare"), (kind, "own", "80x24", 50, "bare"), (kind, "own", "80x24", 1, "bare"), (kind, "own", "80x24", 0, "shell")]
    return [cell for cell in found if all(word in cell_name(cell).split() for word in only)]


def cell_name(cell):
    kind, prompt, size, latency, around = cell
    split = {0: "", 1: " split", 50: " 50ms"}[latency]
    return f"{kind} {prompt} {size}{split} {around}"


class Bench:
    def __init__(self, folder, seed, outer, feed):
        self.folder, self.seed, self.outer, self.feed = pathlib.Path(folder), seed, outer, feed
        self.servers = programs.Servers(self.folder / "servers")
        self.clients = {}

    def prepare(self, kinds):
        for kind in kinds:
            if kind in scripts.REPLS:
                make = getattr(self.servers, kind, None) or getattr(programs, kind)
                self.clients[kind] = make()

    def run(self, number, cell):
        kind, prompt, size, latency, around = cell
        rng = random.Random(f"{self.seed} {number} {cell_name(cell)}")
        folder = self.folder / f"{number:03}-{cell_name(cell).replace(' ', '-')}"
        folder.mkdir(parents=True)
        draw, secrets, before = scripts.Draw(rng), [], []
        cols = SIZES[size][0]
        nonce = rng.randbytes(16).hex() if around == "hooked" else None
        after = [[("type", "exit"), ("key", scripts.ENTER), ("wait",)]]
        if kind in SHELLS:
            place = programs.Place(folder, kind, prompt)
            acts = scripts.shell(draw, kind, cols, size == "resize", secrets, programs.LOOKALIKE[prompt])
            argv, env, ran = place.argv, place.env, place.ran
            if around == "hooked":
                place.hooked(subprocess.run([self.feed, "--launch", nonce], capture_output=True, text=True, check=True).stdout)
                argv = place.argv
            elif around != "bare":
                argv, env, before, after = self.outer.around(around, folder, place, kind)
        else:
            start, told = self.clients[kind]
            name = f"bench{number}"
            argv, extra = start(str(folder), name)
            env = programs.ENV | {"HOME": str(folder)} | extra
            acts = scripts.repl(draw, kind, cols)
            quit_ = [("type", scripts.QUIT[kind]), ("key", scripts.ENTER), ("wait", 0.2)]
            ran, after = (lambda: told(str(folder), name)), [quit_]
            if around == "shell":
                outer = programs.Place(folder / "outer", "bash", "plain")
                script = folder / "client"
                script.write_text(f"#!/bin/sh\nexec {shlex.join(argv)}\n")
                script.chmod(0o755)
                env = outer.env | extra
                before = [[("type", str(script)), ("key", scripts.ENTER), ("wait", 0.6)]]
                after += [[("type", "exit"), ("key", scripts.ENTER), ("wait",)]]
                argv = outer.argv
        if traced(cell):
            argv = ["strace", "-f", "-qq", "-e", "trace=execve", "-s", "4096", "-o", str(folder / "execve"), *argv]
        session = Session(argv, env, "/", SIZES[size], 0.05 if latency == 50 else 0.0, latency == 1, rng, nonce, folder / "told")
        session.begin()
        for steps in itertools.chain(before, (steps for steps, _ in acts), after):
            session.play(steps)
        session.close(folder / "capture")
        if around not in ("bare", "shell", "hooked"):
            self.outer.end(around, folder)
        time.sleep(0.3)
        intended = [text for _, texts in acts for text in texts]
        (folder / "truth.json").write_text(json.dumps({"intended": intended, "told": list(ran()), "secrets": secrets, "extra": [s[0][1] for s in before + after]}))
        return cell, folder


def traced(cell):
    """Where what is spawned is watched as well."""
    return cell[0] in ("bash", "zsh", "fish") and cell[1] == "plain" and cell[2:4] == ("80x24", 0) and cell[4] in ("bare", "hooked")


def spawned(folder, counted):
    """Of the counted commands that are one program with plain words, how many the kernel was asked to run."""
    calls = []
    for row in (folder / "execve").read_text(errors="replace").splitlines():
        if "= 0" in row and (found := re.search(r"execve\(\"[^\"]*\", \[(.*?)\]", row)):
            calls.append(tuple(re.findall(r'"((?:[^"\\]|\\.)*)"', found[1])))
    builtin = {"echo", "printf", "true", "false", "pwd", "cd", "test", "read", "command", "exit", "which", "env"}
    simple = [tuple(text.split()) for text in counted if re.fullmatch(r"[\w./:+=-]+(?: [\w./:+=-]+)*", text)]
    simple = [words for words in simple if words[0] not in builtin]
    left = collections.Counter(calls)
    # Settings may add a word, as an alias of ls does.
    ran = sum(any(call[:1] == words[:1] and set(words) <= set(call) for call in left) for words in simple)
    return ran, len(simple)


def lines(text):
    return [line for line in map(fold, text.replace("\\\n", "").split("\n")) if line]


def agreed(kind, intended, told):
    """The intended commands that the target tells as well, to their last line: some targets tell line by line."""
    told = lines("\n".join(told))
    flat = [(number, line) for number, text in enumerate(intended) for line in lines(text)]
    seen = collections.Counter(flat[i][0] for i, _ in common([line for _, line in flat], told))
    kept = []
    for number, text in enumerate(intended):
        # A history leaves out what is the same as the line before.
        again = kind in HISTORIES and number and fold(text) == fold(intended[number - 1])
        if seen[number] == len(lines(text)) or again and kept and kept[-1] == fold(text):
            kept.append(fold(text))
    return kept


def joined(found, counted):
    """What was found, with pieces put together that are one command of many lines: a shell may run a paste line by line."""
    whole, at = [], 0
    counted = set(counted)
    while at < len(found):
        pieces = (n for n in range(min(LINES_MAX, len(found) - at), 1, -1) if " ".join(found[at:at + n]) in counted)
        count = next(pieces, 1)
        whole.append(" ".join(found[at:at + count]))
        at += count
    return whole


def score(cell, folder, answer):
    truth = json.loads((folder / "truth.json").read_text())
    kind, around = cell[0], cell[4]
    counted = agreed(kind, truth["intended"], truth["told"])
    count = lambda name: collections.Counter(map(fold, truth[name]))
    said = (count("intended") | count("told")) + count("extra")
    result = {"cell": cell, "folder": folder, "counted": len(counted), "intended": len(truth["intended"])}
    if traced(cell) and (folder / "execve").exists():
        result["spawned"] = spawned(folder, counted)
    for method in METHODS:
        found = answer[method]
        if method == "ours":
            commands = [one for one in found if "text" in one]
            if kind in SHELLS and cell[1] == "none" and around != "hooked":
                chosen = commands
            else:
                chosen = [one for one in commands if one["context"] != "program"]
            found = [one["text"] for one in chosen]
            # One that was typed at a prompt after all, and run, was shown to everybody.
            secrets = [secret for secret in truth["secrets"] if not any(secret in text for text in truth["told"])]
            result["secret"] = [one["text"] for one in commands if any(secret in one["text"] for secret in secrets)]
            result["ms"] = answer["ms"]
        found = joined([text for text in map(fold, found) if text], counted)
        pairs = common(counted, found)
        hit = {j for _, j in pairs}
        # What the target or the script says, but not both, is neither right nor wrong, as often as it is said.
        spare = said - collections.Counter(found[j] for j in hit)
        judged = []
        for j, text in enumerate(found):
            if j in hit or not spare[text]:
                judged.append(j)
            else:
                spare[text] -= 1
        result[method] = (len(pairs), len(counted), len(hit), len(judged))
        if method == "ours":
            got = {i for i, _ in pairs}
            result["missed"] = [text for i, text in enumerate(counted) if i not in got]
            result["wrong"] = [found[j] for j in judged if j not in hit]
    return result


def share(part, whole):
    return f"{100 * part / whole:5.1f}" if whole else "    -"


def table(title, groups, goal_of):
    print(f"\n{title:24} {'counted':>7}  {'recall':>6} {'precis.':>7}   {'goal':>7}   keystrokes   row at Enter   between")
    missed_goal = []
    for name, results in groups.items():
        sums = {m: [sum(r[m][k] for r in results) for k in range(4)] for m in METHODS}
        hit, counted, right, judged = sums["ours"]
        goal = goal_of(name)
        words = f"{goal[0]}/{goal[1]}" if goal else ""
        row = f"{name:24} {counted:7}   {share(hit, counted)}   {share(right, judged)}   {words:>7} "
        row += "  ".join(f"{share(sums[m][0], sums[m][1])}/{share(sums[m][2], sums[m][3])}" for m in METHODS[1:])
        below = goal and counted and (100 * hit < goal[0] * counted or 100 * right < goal[1] * judged)
        print(row + ("   below its goal" if below else ""))
        if below:
            missed_goal.append(name)
    return missed_goal


def goal_of(name):
    word = name.split()
    if word[-1] in ("tmux", "screen"):
        return PANE_GOAL
    if word[-1] == "hooked":
        return HOOKED_GOAL
    if word[0] in scripts.REPLS:
        return REPL_GOAL
    return GOALS.get(word[0])


def cost(feed, folder):
    """What reading costs: a session in bursts, a command before each, and one flood."""
    listing = subprocess.run(["ls", "-lR", "/usr/share", "/usr/lib"], capture_output=True).stdout.replace(b"\n", b"\r\n")[:COST_BYTES]
    text = b"".join(path.read_bytes() for path in sorted(pathlib.Path(__file__).parents[2].glob("src/**/*.rs"))).replace(b"\n", b"\r\n")[:COST_BYTES]
    for name, data, burst in (("bursts of listings", listing, BURST_BYTES), ("bursts of source text", text, BURST_BYTES), ("a flood of listings", listing, len(listing))):
        events, at = [["r", 0, 80, 24]], 0
        for start in range(0, len(data), burst):
            at += 1000
            events += [["o", at, b"\r\nroot@db1:~# ".hex()], ["i", at + 100, b"cat x".hex()], ["o", at + 110, b"cat x".hex()], ["i", at + 200, b"\r".hex()]]
            piece = b"\r\n" + data[start:start + burst]
            events += [["o", at + 210 + part // 65536, piece[part:part + 4096].hex()] for part in range(0, len(piece), 4096)]
        path = folder / "cost"
        path.write_text("".join(json.dumps(event) + "\n" for event in events))
        fed = subprocess.run([feed], input=f"{path}\n", capture_output=True, text=True, check=True)
        answer = json.loads(fed.stdout)
        found = sum("text" in one for one in answer["ours"])
        print(f"{name}: {answer['ms'] * 1e6 / len(data):.0f} ms a MB with the emulator, {len(data) / 1e6:.0f} MB, {found} commands")


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run commands", description=__doc__.split("\n\n")[0])
    parser.add_argument("--feed", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", nargs="*", default=[], help="words of the cells to run: bash, tmux, 40x10, ...")
    parser.add_argument("--quick", action="store_true", help="fewer cells of programs with prompts of their own")
    parser.add_argument("--repeat", type=int, default=1, help="sessions of each cell")
    parser.add_argument("--keep", help="a new folder for captures and truth")
    parser.add_argument("--failures", type=int, default=200, help="failures that are listed")
    args = parser.parse_args()
    chosen = [cell for cell in cells(args.only, args.quick) for _ in range(args.repeat)]
    if not chosen:
        parser.error("no cell has all these words")
    folder = pathlib.Path(args.keep or tempfile.mkdtemp(prefix="commands."))
    folder.mkdir(parents=True, exist_ok=True)
    # The account of a database server has to get to its own folder in there.
    folder.chmod(0o755)
    import around
    with around.Outer(folder / "outer", {cell[4] for cell in chosen}) as outer:
        bench = Bench(folder, args.seed, outer, args.feed)
        try:
            bench.prepare({cell[0] for cell in chosen})
            began = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
                waiting = [pool.submit(bench.run, *one) for one in enumerate(chosen)]
                try:
                    ran = [one.result() for one in waiting]
                finally:
                    pool.shutdown(cancel_futures=True)
        finally:
            bench.servers.close()
    print(f"{len(ran)} sessions in {time.monotonic() - began:.0f} s, seed {args.seed}", file=sys.stderr)
    report(ran, args.feed, args.failures)
    cost(args.feed, folder)
    if not args.keep:
        shutil.rmtree(folder)


def report(ran, feed, failures):
    names = "".join(f"{folder}/capture\n" for _, folder in ran)
    fed = subprocess.run([feed], input=names, capture_output=True, text=True, check=True)
    answers = {pathlib.Path(one["file"]).parent: one for one in map(json.loads, fed.stdout.splitlines())}
    results = [score(cell, folder, answers[folder]) for cell, folder in ran]
    by = lambda key: {name: [r for r in results if key(r["cell"]) == name] for name in dict.fromkeys(key(r["cell"]) for r in results)}
    inside = lambda cell: {"tmux": " in tmux", "screen": " in screen", "hooked": " hooked"}.get(cell[4], "")
    below = table("by program", by(lambda c: f"{c[0]}{inside(c)}"), goal_of)
    table("by program and prompt", by(lambda c: f"{c[0]} {c[1]}{inside(c)}"), lambda name: None)
    table("by size and latency", by(lambda c: cell_name(("", "", *c[2:4], "")).strip()), lambda name: None)
    table("by what is around", by(lambda c: c[4]), lambda name: None)
    left_out = sum(r["intended"] - r["counted"] for r in results)
    size = sum((r["folder"] / "capture").stat().st_size for r in results) / 2 / 1e6
    print(f"\n{left_out} intended commands do not count: the target tells them otherwise. Reading took {sum(r['ms'] for r in results):.0f} ms for some {size:.1f} MB.")
    levels = [r["spawned"] for r in results if "spawned" in r]
    if levels:
        print(f"Of {sum(whole for _, whole in levels)} counted programs with plain words, execve saw {sum(part for part, _ in levels)}.")
    secrets = [text for r in results for text in r["secret"]]
    print(f"secrets in a command's text: {len(secrets)}")
    listed = [(cell_name(r["cell"]), what, text) for r in results for what in ("missed", "wrong") for text in r[what]]
    if listed:
        print(f"\nfailures ({min(len(listed), failures)} of {len(listed)}):")
        for name, what, text in listed[:failures]:
            print(f"  {name}: {what}: {text[:150]}")
    print("\nbelow their goals: " + (", ".join(below) or "none"))


if __name__ == "__main__":
    main()
