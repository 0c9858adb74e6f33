"""What a recording costs and how fast it is read: sizes beside asciicast v2 (input included) under gzip -6, then the
player's own bench (verify, open, seek, search, grep).

Usage: tests/bench/run recording
"""
import argparse, gzip, os, pty, select, statistics, subprocess, sys, tempfile, time

from gate import LIMIT_S, Rig, row, wait_for

# What people do in a terminal, on any Debian; at least 20 kB of output each.
TERMINAL = {
    "long listings": ["ls -la --color=always /usr/bin | head -600", "ls -laR /etc | head -900", "exit"],
    "a build's log": ["for i in $(seq 700); do echo \"   Compiling crate-$i v0.$((i % 40)).$((i % 7)) (/src/crate-$i)\"; done", "exit"],
    "process tables": ["for i in 1 2 3 4 5 6 7 8; do ps auxww; done", "exit"],
    "a pager": ["seq 20000 | awk '{print $1, $1*$1, \"the quick brown fox\"}' | head -900", "dpkg -l | cat", "exit"],
    "configuration files": ["cat /etc/ssh/sshd_config /etc/services /etc/protocols", "exit"],
    "a full-screen program": ["for i in $(seq 60); do printf '\\033[H\\033[2J'; ps aux | head -38; done", "exit"],
    "a script's trace": ["set -x; for i in $(seq 300); do test -d /usr/share/doc/$i; done 2>&1", "exit"],
    "a log followed": ["for i in $(seq 400); do echo \"$(date +%FT%T.%N) host sshd[$i]: Accepted publickey for user$i from 10.0.0.$((i%250))\"; done", "exit"],
}
BULK = {
    "text": "seq 1 2000000",
    "a log": "for i in $(seq 200000); do echo \"2026-01-01T00:00:00 host app[$i]: request $((i * 7919 % 65536)) done in $((i % 977)) ms\"; done",
}


def typed(rig, lines):
    """A session in a terminal of 120 by 40, typed by hand: a key every 3 ms, the next line once all is quiet."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execvp("ssh", ["ssh", "-F", str(rig.dir / "cfg"), "-tt", "ours", "stty cols 120 rows 40; exec bash --norc --noprofile"])
    end = time.monotonic() + LIMIT_S

    def quiet(seconds):
        """Reads until nothing came for so long; at the end of the session too."""
        while time.monotonic() < end and select.select([fd], [], [], seconds)[0]:
            try:
                os.read(fd, 65536)
            except OSError:
                return

    quiet(0.5)
    for line in lines:
        for key in line + "\r":
            os.write(fd, key.encode())
            quiet(0.003)
        quiet(0.4)
    os.waitpid(pid, 0)
    os.close(fd)


def newest(rig, count):
    archive = rig.state / "archive"
    wait_for("the seal", lambda: len(list(archive.glob("*.pcr.proof"))) > count, 60)
    return max(archive.glob("*.pcr"), key=lambda file: file.stat().st_mtime_ns)


def compare(rig, file):
    """Sizes of the recording and of the same session as a gzipped asciicast; both in bytes, and the output's."""
    player = rig.bin.parent / "portcullis-player"
    cast = subprocess.run([player, "export", file, "--trust", rig.state / "trust.toml", "--format", "asciicast-v2", "--input"],
                          check=True, capture_output=True, timeout=LIMIT_S).stdout
    plain = subprocess.run([player, "export", file, "--trust", rig.state / "trust.toml", "--format", "asciicast-v2"],
                           check=True, capture_output=True, timeout=LIMIT_S).stdout
    return file.stat().st_size, len(gzip.compress(cast, 6)), len(plain)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--bin", required=True)
    args = args.parse_args()
    with tempfile.TemporaryDirectory(prefix="pcbench") as folder:
        rig = Rig(args.bin, folder)
        try:
            print(f"load average at the start: {os.getloadavg()[0]:.1f}", flush=True)
            row("what", "recording", "ratio", "asciicast v2 with input, gzip -6")
            ratios = []
            for count, (name, lines) in enumerate(TERMINAL.items()):
                typed(rig, lines)
                size, cast, shown = compare(rig, newest(rig, count))
                ratios.append(size / cast)
                row(f"size, {name}, {shown // 1000} kB shown", f"{size} B", f"{size / cast:.2f}", f"{cast} B")
            row("size, median of these", "", f"{statistics.median(ratios):.2f}", "goal: at most 0.70")
            ratios = []
            for count, (name, command) in enumerate(BULK.items(), len(TERMINAL)):
                rig.ssh("ours", "-tt", command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                size, cast, shown = compare(rig, newest(rig, count))
                ratios.append(size / cast)
                row(f"size, bulk, {name}, {shown // 1000} kB shown", f"{size} B", f"{size / cast:.2f}", f"{cast} B")
            row("size, median of bulk", "", f"{statistics.median(ratios):.2f}", "goal: at most 0.65")
        finally:
            rig.close()
    sys.stdout.flush()
    os.execvp("cargo", ["cargo", "bench", "--quiet", "-p", "portcullis-player"])


if __name__ == "__main__":
    main()
