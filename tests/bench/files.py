"""One large file by sftp each way: in full, as digests, and into the vault. Time, CPU, and the memory of the bastion meanwhile.

Usage: tests/bench/run files [--mib N] [--only full|digest|vault]

Memory is what the bastion's process holds (VmRSS), the most of each quarter of the transfer. The hash that the recording says
is held against that of the file.
"""
import argparse, hashlib, json, os, pathlib, subprocess, tempfile, threading, time

from gate import Ruled, row, wait_for

LIMIT_S = 1800
QUARTERS = 4
SAMPLE_EVERY_S = 0.1
KEPT = '@id("bench-files") @record("{}") permit (principal, action in [Action::"exec", Action::"subsystem"], resource);\n'


class Keeping(Ruled):
    """A bastion that keeps files in one way."""

    def __init__(self, binaries, folder, kept):
        self.kept = kept
        super().__init__(binaries, folder)

    def rules(self):
        return "" if self.kept == "full" else KEPT.format(self.kept)

    def resident_mib(self):
        status = open(f"/proc/{self.server.pid}/status").read()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


class Watch:
    """Memory of the bastion while something runs: samples as (seconds, MiB)."""

    def __init__(self, rig):
        self.rig, self.samples, self.over = rig, [], threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.began = time.monotonic()
        self.thread.start()

    def sample(self):
        while not self.over.wait(SAMPLE_EVERY_S):
            self.samples.append((time.monotonic() - self.began, self.rig.resident_mib()))

    def end(self):
        """Seconds, and the most of each quarter."""
        took = time.monotonic() - self.began
        self.over.set()
        self.thread.join()
        quarter = took / QUARTERS
        most = [max((mib for at, mib in self.samples if n * quarter <= at < (n + 1) * quarter), default=0.0) for n in range(QUARTERS)]
        return took, most


def payload(path, mib):
    """So much that does not compress, and its SHA-256."""
    digest = hashlib.sha256()
    with open(path, "wb") as sink:
        for _ in range(mib):
            block = os.urandom(1 << 20)
            digest.update(block)
            sink.write(block)
    return digest.hexdigest()


def told(rig):
    """What the recordings say of files; the recordings are deleted afterwards."""
    wait_for("the seal", lambda: not any(path.is_dir() for path in (rig.state / "spool").iterdir()), LIMIT_S)
    found, size = [], 0
    for file in sorted((rig.state / "archive").glob("**/*.pcr")):
        player = rig.bin.parent / "portcullis-player"
        out = subprocess.run([player, "files", file, "--json", "--trust", rig.state / "trust.toml"], capture_output=True, check=True, timeout=LIMIT_S).stdout
        found += [json.loads(line) for line in out.splitlines()]
        size += file.stat().st_size
        file.unlink()
    return found, size


def move(rig, way, here, there):
    """One file by sftp, at the batch's own prompt."""
    batch = f"{'put' if way == 'up' else 'get'} {here} {there}\n"
    subprocess.run(["sftp", "-q", "-F", rig.dir / "cfg", "-b", "-", "ours"], input=batch.encode(), check=True, timeout=LIMIT_S,
                   stdout=subprocess.DEVNULL)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--bin", required=True)
    args.add_argument("--mib", type=int, default=4096)
    args.add_argument("--only", choices=("full", "digest", "vault"), action="append")
    args = args.parse_args()
    wrong = 0
    for kept in args.only or ("full", "digest", "vault"):
        with tempfile.TemporaryDirectory(prefix="pcfiles") as folder:
            rig = Keeping(pathlib.Path(args.bin).resolve(), folder, kept)
            try:
                source, sink = rig.dir / "payload", rig.dir / "got"
                digest = payload(source, args.mib)
                for way in ("up", "down"):
                    rest, before, watch = rig.resident_mib(), rig.cpu(), Watch(rig)
                    move(rig, way, source, sink)
                    took, most = watch.end()
                    files, size = told(rig)
                    cpu = (rig.quiet_cpu() - before) * 1024 / args.mib
                    right = [digest in json.dumps(file) for file in files].count(True) == 1
                    wrong += not right
                    row(f"{args.mib} MiB {way}, {kept}", f"{args.mib / took:.0f} MiB/s", f"{cpu:.1f} CPU-s/GiB",
                        f"MiB at rest {rest:.0f}, by quarter {' '.join(f'{mib:.0f}' for mib in most)}; recording {size >> 20} MiB; "
                        f"hash {'right' if right else 'WRONG: ' + json.dumps(files)}")
                    sink.unlink(missing_ok=way == "down")
                    (rig.dir / "got").unlink(missing_ok=True)
            finally:
                rig.close()
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
