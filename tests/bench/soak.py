"""Two hundred mixed sessions and ten transfers of 1 GiB each way: none may hang, differ, leak or stay unsealed.

Usage: tests/bench/run soak [--sessions N] [--minutes N] [--transfers N] [--mib N]

With --minutes the sessions come again and again for so long; the first time is the warm-up that memory and descriptors
are held against. The figures of the house: --sessions 500 --minutes 60 --transfers 50.
"""
import argparse, concurrent.futures, hashlib, json, os, pathlib, subprocess, tempfile, time

from gate import Rig, wait_for

WORKERS = 16
LIMIT_S = 300
# How much the server's memory may grow after the warm-up.
GROWTH_MAX = 1.03
TEXT = "".join(f"line {n}\n" for n in range(2000))


def ssh(rig, *args, **kw):
    return subprocess.run(["ssh", "-F", rig.dir / "cfg", *args], timeout=LIMIT_S, capture_output=True, **kw)


def shell(rig, n):
    done = ssh(rig, "ours", input=f"echo shell-$((40 + {n}))\nexit 3\n".encode())
    return done.returncode == 3 and f"shell-{40 + n}\n".encode() in done.stdout


def terminal(rig, n):
    done = ssh(rig, "-tt", "ours", "stty size; echo term; exit 4", stdin=subprocess.DEVNULL)
    return done.returncode == 4 and b"term" in done.stdout


def output(rig, n):
    done = ssh(rig, "ours", "seq 200000; echo err >&2; exit 5", stdin=subprocess.DEVNULL)
    return done.returncode == 5 and done.stdout.endswith(b"200000\n") and done.stderr.endswith(b"err\n")


def both_ways(rig, n):
    done = ssh(rig, "ours", "cat", input=TEXT.encode() * 20)
    return done.returncode == 0 and done.stdout == TEXT.encode() * 20


def ignored_input(rig, n):
    done = ssh(rig, "ours", "sleep 0.2; exit 6", input=b"x" * (8 << 20))
    return done.returncode == 6


def copy(rig, n, old):
    there = rig.dir / f"copied-{n}-{old}"
    source = rig.dir / "text"
    args = ["scp", "-q", *(["-O"] if old else []), "-F", rig.dir / "cfg", source, f"ours:{there}"]
    done = subprocess.run(args, timeout=LIMIT_S, capture_output=True)
    return done.returncode == 0 and there.read_bytes() == source.read_bytes()


def killed(rig, n):
    done = ssh(rig, "ours", "kill -KILL $$", stdin=subprocess.DEVNULL)
    return done.returncode == 255 or done.returncode == 137


def master(rig, n):
    control = rig.dir / f"m{n}"
    up = ["-o", f"ControlPath={control}"]
    # No pipes: the process that goes into the background would hold them open.
    subprocess.run(["ssh", "-F", rig.dir / "cfg", "-fNM", *up, "ours"], timeout=LIMIT_S, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    good = all(ssh(rig, *up, "ours", f"echo {k}", stdin=subprocess.DEVNULL).stdout == f"{k}\n".encode() for k in range(4))
    ssh(rig, "-O", "exit", *up, "ours", stdin=subprocess.DEVNULL)
    return good


KINDS = (shell, terminal, output, both_ways, ignored_input, lambda rig, n: copy(rig, n, False),
         lambda rig, n: copy(rig, n, True), killed, master)


def transfer(rig, n, mib, down):
    """One file through `cat`, compared by its SHA-256."""
    payload = rig.dir / "payload"
    began = time.monotonic()
    if down:
        child = subprocess.Popen(["ssh", "-F", rig.dir / "cfg", "ours", f"cat {payload}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        digest = hashlib.sha256()
        while data := child.stdout.read(1 << 20):
            digest.update(data)
        good = child.wait(LIMIT_S) == 0 and digest.hexdigest() == rig.digest
    else:
        with open(payload, "rb") as source:
            done = subprocess.run(["ssh", "-F", rig.dir / "cfg", "ours", "sha256sum"], stdin=source, capture_output=True, timeout=LIMIT_S)
        good = done.returncode == 0 and done.stdout.decode().split()[:1] == [rig.digest]
    return good, mib / (time.monotonic() - began)


def spooled(rig):
    return [path.name for path in (rig.state / "spool").iterdir() if path.is_dir()]


def verified(rig, expected):
    """Every recording, by the player with the exported trust; they are deleted afterwards."""
    try:
        wait_for("the seals", lambda: not spooled(rig), 120)
    except SystemExit:
        # What the server says of those that stay tells where they stand.
        log = (rig.dir / "serve.err").read_text(errors="replace").splitlines()
        print("\n".join(line for line in log if any(session in line for session in spooled(rig))), flush=True)
        raise
    files = sorted((rig.state / "archive").glob("**/*.pcr"))
    good = 0
    for file in files:
        done = subprocess.run([rig.bin, "verify", file, "--trust", rig.state / "trust.toml"], capture_output=True, timeout=LIMIT_S)
        good += done.returncode == 0 and b"SEALED" in done.stdout
        file.unlink()
    return f"{good} of {len(files)} recordings SEALED, {expected} expected", good == len(files) == expected


def mixed(rig, sessions):
    """Sessions of every kind at once, and their recordings; whether all is right."""
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        good = list(pool.map(lambda n: KINDS[n % len(KINDS)](rig, n), range(sessions)))
    bad = [f"{KINDS[n % len(KINDS)].__name__} {n}" for n, fine in enumerate(good) if not fine]
    text, fine = verified(rig, sessions)
    print(f"{sum(good)} of {sessions} mixed sessions right in {time.monotonic() - began:.0f} s; {text}; wrong: {bad or 'none'}", flush=True)
    return fine and not bad


def settled(rig):
    """Memory in KiB and descriptors once the server is quiet and has given back what it gives back."""
    rig.quiet_cpu()
    time.sleep(5)
    return rig.pss(), len(os.listdir(f"/proc/{rig.server.pid}/fd"))


def again(rig, sessions, minutes):
    """The same for so long; whether nothing grew after the first time."""
    fine = mixed(rig, sessions)
    if minutes == 0:
        return fine
    (memory, descriptors), began = settled(rig), time.monotonic()
    while time.monotonic() < began + minutes * 60:
        fine &= mixed(rig, sessions)
    memory_now, descriptors_now = settled(rig)
    print(f"after {minutes} minutes: memory {memory_now / memory:.3f} of that after the warm-up (at most {GROWTH_MAX}), "
          f"{descriptors_now} descriptors against {descriptors}", flush=True)
    return fine and memory_now <= memory * GROWTH_MAX and descriptors_now <= descriptors


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--bin", required=True)
    args.add_argument("--sessions", type=int, default=200)
    args.add_argument("--minutes", type=float, default=0)
    args.add_argument("--transfers", type=int, default=10)
    args.add_argument("--mib", type=int, default=1024)
    args = args.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(prefix="pcsoak") as folder:
        rig = Rig(args.bin, folder)
        try:
            (rig.dir / "text").write_text(TEXT)
            base = rig.pss()
            failed |= not again(rig, args.sessions, args.minutes)
            digest = hashlib.sha256()
            with open(rig.dir / "payload", "wb") as payload:
                for _ in range(args.mib):
                    block = os.urandom(1 << 20)
                    digest.update(block)
                    payload.write(block)
            rig.digest = digest.hexdigest()
            for down in (True, False):
                rates, sealed = [], True
                for n in range(args.transfers):
                    good, rate = transfer(rig, n, args.mib, down)
                    text, fine = verified(rig, 1)
                    sealed &= fine
                    failed |= not (good and fine)
                    rates.append(rate)
                way = "down" if down else "up"
                print(f"{args.transfers} transfers of {args.mib} MiB {way}: {'all' if not failed else 'NOT ALL'} whole and "
                      f"{'SEALED' if sealed else 'NOT SEALED'}, {min(rates):.0f} to {max(rates):.0f} MiB/s", flush=True)
            sessions = json.loads(rig.run("--state", rig.state, "sessions", "--json").stdout)["sessions"]
            left = sum(1 for session in sessions if session["live"])
            failed |= left > 0
            print(f"memory: {base / 1024:.1f} MiB at rest, {rig.pss() / 1024:.1f} MiB now; sessions left open: {left}")
        finally:
            rig.close()
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
