"""Kills the gate under load, at enumerated disk calls and at random moments, and checks each time what is left.

strace counts calls by thread: "the 5th fsync" kills at the first thread that comes to its fifth, before it is done. A
start after a kill has recovery to do, and is killed in the same way; then the next start has to finish both.
"""
import argparse, collections, os, pathlib, random, re, shutil, subprocess, tempfile, threading, time

from crash import Violation, World

# How far each call is enumerated: about what one thread makes in a start and some seconds of load.
CALLS = {"fsync": 30, "fdatasync": 12, "rename": 12, "renameat2": 4, "unlink": 8, "unlinkat": 4, "mkdir": 4,
         "ftruncate": 6, "fallocate": 2, "pwrite64": 40, "write": 60}
RANDOM_PART = 0.25
# Until a random moment; a call that is not reached by the last one is given up.
LOAD_S, LOAD_MAX_S = (0.1, 1.2), 2.0
# Kills on one state folder, whose ledger and archive are checked as a whole each time.
KILLS_A_FOLDER = 40
KEPT_MAX = 5
PLACES = [("spool/[0-9a-f]+/main", "spool, main file"), ("spool/[0-9a-f]+/tail", "spool, tail"), ("recovering", "spool, redo log"),
          ("spool", "spool, folder"), ("ledger/journal", "ledger, journal"), ("ledger", "ledger, checkpoint and tiles"),
          (r"archive/.*\.(proof|sig)", "archive, sidecar"), ("archive", "archive, recording"), ("store", "store")]


def plans(rng):
    """Calls with their number, each once in a round, and moments (`None`) between them."""
    while True:
        enumerated = [(call, n) for call, most in CALLS.items() for n in range(1, most + 1)]
        moments = [None] * int(len(enumerated) * RANDOM_PART / (1 - RANDOM_PART))
        mixed = enumerated + moments
        rng.shuffle(mixed)
        yield from mixed


def tracer(plan, log):
    if plan is None:
        return []
    call, n = plan
    return ["strace", "-f", "-D", "-y", "-qq", "-o", log, "-e", f"trace={','.join(CALLS)}", "-e", "signal=none",
            "-e", f"inject={call}:signal=KILL:when={n}"]


def place(plan, log):
    """Which file the fatal call was about."""
    call, _ = plan
    cut_off = [line for line in log.read_text(errors="replace").splitlines()
               if re.match(rf"\d+ {call}\(.* = \?$", line)]
    if not cut_off:
        return f"among several: {call}"
    for pattern, name in PLACES:
        if re.search(f"/state/{pattern}", cut_off[-1]):
            return f"{name}: {call}"
    return f"elsewhere: {call}"


def at_disk(where):
    """Whether a kill was at a call about a file; the runtime also writes to wake its threads."""
    return where not in ("at a random moment", "elsewhere: write", "among several: write")


class Campaign:
    def __init__(self, args):
        self.args, self.rng = args, random.Random(args.seed)
        random.seed(args.seed)
        self.plans = plans(self.rng)
        self.kills, self.sessions, self.violations = 0, 0, 0
        self.places, self.phases = collections.Counter(), collections.Counter()
        self.began = time.monotonic()

    def over(self):
        return self.kills >= self.args.count or (self.args.seconds and time.monotonic() - self.began > self.args.seconds)

    def run(self):
        while not self.over():
            with tempfile.TemporaryDirectory(prefix="pckill") as folder:
                self.folder(pathlib.Path(folder))

    def folder(self, folder):
        world = World(self.args.bin, folder)
        world.kill()
        seen, plan, history = [], None, []
        try:
            for _ in range(KILLS_A_FOLDER):
                plan, log = next(self.plans), folder / "trace"
                history.append(plan)
                log.unlink(missing_ok=True)
                seen += self.one(world, plan, log, seen)
                if self.over():
                    break
            # The last word: nothing in the way.
            if not world.start():
                raise Violation(f"the server ends by itself: {(folder / 'serve.err').read_text()[-2000:]}")
            world.check(seen)
        except Violation as violation:
            self.violations += 1
            print(f"VIOLATION after {history[-3:]}, seed {self.args.seed}, kill {self.kills}: {violation}", flush=True)
            if self.args.keep and self.violations <= KEPT_MAX:
                world.keep(self.args.keep, self.violations)
        finally:
            self.sessions += len(world.checked)
            world.close()

    def one(self, world, plan, log, seen):
        """One start, one load, one kill; gives what its clients saw. `seen` is what is not checked yet."""
        phase, more = "at the start", []
        if world.start(tracer(plan, log)):
            try:
                world.check(seen)
                seen.clear()
            except subprocess.CalledProcessError as failed:
                # It came to its call while it was asked; the next start is checked.
                if not plan or not world.dies():
                    raise Violation(f"{failed}: {failed.stderr.decode()[:500]}") from failed
        if world.alive():
            phase, over = "under load", threading.Event()
            threads, more = world.load(over)
            end = time.monotonic() + (LOAD_MAX_S if plan else self.rng.uniform(*LOAD_S))
            while world.alive() and time.monotonic() < end:
                time.sleep(0.005)
            hit = not world.alive()
            over.set()
            world.kill()
            world.gone(threads)
        else:
            hit = True
            world.kill()
        if hit and plan is None:
            raise Violation(f"the server ended by itself: {(world.dir / 'serve.err').read_text()[-2000:]}")
        self.kills += 1
        where = place(plan, log) if hit else None
        self.places[where or "at a random moment"] += 1
        self.phases[phase] += 1
        if self.kills % 50 == 0:
            print(f"{self.kills} kills, {time.monotonic() - self.began:.0f} s, {self.violations} violations", flush=True)
        return more


def main():
    args = argparse.ArgumentParser(prog="tests/campaigns/kill")
    args.add_argument("count", type=int, help="how many kills")
    args.add_argument("--bin", required=True, help="folder of portcullis and portcullis-player")
    args.add_argument("--seed", type=int, default=int(time.time()))
    args.add_argument("--seconds", type=int, default=0, help="end after this time; 0: after COUNT only")
    args.add_argument("--keep", help="folder for the state folders of violations")
    args = args.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("run it as root: the target sshd logs root in")
    for tool in ("ssh", "scp", "/usr/sbin/sshd", "strace"):
        if not shutil.which(tool):
            raise SystemExit(f"{tool} is missing: apt-get install openssh-client openssh-server strace")
    campaign = Campaign(args)
    campaign.run()
    for where, times in sorted(campaign.places.items()):
        print(f"{times:6}  {where}")
    at_calls = sum(times for where, times in campaign.places.items() if at_disk(where))
    print(f"{campaign.kills} kills in {time.monotonic() - campaign.began:.0f} s, {at_calls} of them at disk calls, "
          f"{campaign.phases['at the start']} before the server was ready; {campaign.sessions} recordings, "
          f"{campaign.violations} violations (seed {args.seed})")
    raise SystemExit(1 if campaign.violations else 0)


if __name__ == "__main__":
    main()
