"""Cuts the power of the file system that holds the state folder, while the gate is under load, and checks what is left.

The file system is an image on a loop device. FS_IOC_SHUTDOWN without flushing (the call that xfstests uses) stops it at
once: what was not on the disk by then is gone, the journal's last transactions included. It is unmounted, mounted, its
own log replayed, and the gate started again. Clients, the target and its log are on another file system: they remember.

What is stated for a power cut (SECURITY.md): at most the last second is lost, with `recording.durable` what came after the
last Enter. Ledger entries, grants and revocations that were answered are not.
"""
import argparse, fcntl, json, os, pathlib, random, re, shutil, struct, subprocess, tempfile, threading, time

from crash import Violation, World

SHUTDOWN = 0x8004587D  # _IOR('X', 125, u32)
NO_LOG_FLUSH = struct.pack("I", 2)
IMAGE_MIB = 700
BOUND_S = 1.0
LOAD_S = (0.2, 2.5)
# How often the next start is cut as well, and when.
AGAIN_PART, RECOVERY_S = 0.3, (0.0, 0.12)
CUTS_AN_IMAGE = 25
KEPT_MAX = 5
KINDS = ("ext4", "xfs")


class Disk:
    def __init__(self, kind, folder):
        self.image, self.at = folder / "image", folder / "state"
        with open(self.image, "wb") as image:
            image.truncate(IMAGE_MIB << 20)
        subprocess.run([f"mkfs.{kind}", "-q", str(self.image)], check=True)
        self.at.mkdir()
        self.mount()
        for entry in self.at.iterdir():
            entry.rmdir()  # lost+found: a state folder is made where nothing is

    def mount(self):
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.at)], check=True)

    def unmount(self):
        end = time.monotonic() + 10
        while subprocess.run(["umount", str(self.at)], capture_output=True).returncode != 0:
            if time.monotonic() > end:
                raise SystemExit(f"{self.at} cannot be unmounted")
            time.sleep(0.05)

    def again(self):
        """As after power came back: the file system replays its own log."""
        self.unmount()
        self.mount()

    def cut(self):
        """Gives the moment after which nothing came to the disk any more, at the earliest."""
        handle = os.open(self.at, os.O_RDONLY)
        try:
            moment = time.monotonic()
            fcntl.ioctl(handle, SHUTDOWN, NO_LOG_FLUSH)
        finally:
            os.close(handle)
        return moment


class Powered(World):
    """A gate whose state is on such a disk."""

    complete = False

    def __init__(self, binaries, folder, kind, durable):
        self.durable = durable
        self.disk = Disk(kind, pathlib.Path(folder))
        try:
            super().__init__(binaries, folder)
        except BaseException:
            self.disk.unmount()
            raise
        self.revoked, self.first_lost = [], None
        shutil.copy(self.dir / "id.pub", self.dir / "other.pub")

    def configured(self, text):
        durable = str(self.durable).lower()
        return super().configured(text).replace("#durable = false", f"durable = {durable}")

    def close(self):
        super().close()
        self.disk.unmount()

    def admin(self):
        """Grants that are revoked at once: both were answered, so both must last."""
        issued = subprocess.run([self.bin, "--state", self.state, "--json", "grant", "issue", "--identity", "alice", "--for", "1h",
                                 "--reason", "power", "--public-key", self.dir / "other.pub", "root@db1"], capture_output=True)
        if issued.returncode != 0:
            return
        grant = json.loads(issued.stdout)["grant"]["id"]
        gone = subprocess.run([self.bin, "--state", self.state, "revoke", "--grant", grant, "--reason", "power"],
                              capture_output=True)
        if gone.returncode == 0:
            self.revoked.append(grant)

    def check(self, seen, sure=None):
        grants = {g["id"]: g["state"] for g in json.loads(self.run("--state", self.state, "--json", "grants").stdout)["grants"]}
        for grant in self.revoked:
            if grants.get(grant) != "revoked":
                raise Violation(f"a revoked grant is {grants.get(grant, 'unknown')} after the power cut")
        super().check(seen, sure)

    def law_1(self, seen, sure):
        yield from super().law_1(seen, sure)
        for one in seen if self.durable else []:
            if one.kind == "terminal":
                yield from self.entered(one)

    def entered(self, one):
        """An Enter that had its effect at the target was on the disk before, and so was all that came before it."""
        whole = one.until(float("inf"))
        lines = re.findall(rf"{one.word} (\d+)\r\n".encode(), whole)
        if lines:
            before = whole[:whole.index(b"%s %s\r\n" % (one.word.encode(), lines[-1]))]
            if not any(r and r.get("output", b"").startswith(before) for r in self.checked.values()):
                yield f"durable: line {lines[-1].decode()} of {one.word} is answered, and what came before it is not recorded"


class Campaign:
    def __init__(self, args):
        self.args, self.rng = args, random.Random(args.seed)
        random.seed(args.seed)
        self.cuts, self.durable, self.durable_cuts = dict.fromkeys(KINDS, 0), True, 0
        self.sessions, self.violations, self.worst_s = 0, 0, 0.0
        self.began = time.monotonic()

    def total(self):
        return sum(self.cuts.values())

    def over(self):
        return self.total() >= self.args.count or (self.args.seconds and time.monotonic() - self.began > self.args.seconds)

    def run(self):
        kinds = [self.args.only] if self.args.only else list(KINDS)
        each = min(CUTS_AN_IMAGE, -(-self.args.count // len(kinds) // 2))
        while not self.over():
            for kind in kinds:
                self.durable = not self.durable if kind == kinds[0] else self.durable
                with tempfile.TemporaryDirectory(prefix="pcpower") as folder:
                    self.image(pathlib.Path(folder), kind, each)

    def image(self, folder, kind, count):
        world = Powered(self.args.bin, folder, kind, self.durable)
        try:
            for _ in range(count):
                if self.over():
                    break
                self.one(world, kind)
        except Violation as violation:
            self.violations += 1
            print(f"VIOLATION on {kind}, {'durable, ' * world.durable}seed {self.args.seed}, cut {self.total()}: {violation}", flush=True)
            if self.args.keep and self.violations <= KEPT_MAX:
                world.keep(self.args.keep, self.violations)
        finally:
            self.sessions += len(world.checked)
            world.close()

    def one(self, world, kind):
        over, before = threading.Event(), self.total()
        threads, seen = world.load(over)
        end = time.monotonic() + self.rng.uniform(*LOAD_S)
        while time.monotonic() < end:
            world.admin()
        if not world.alive():
            raise Violation("the server ended by itself")
        cut = world.disk.cut()
        over.set()
        world.kill()
        world.gone(threads)
        world.disk.again()
        self.cuts[kind] += 1
        while self.rng.random() < AGAIN_PART and not self.over():
            # While it recovers what the last cut has left.
            world.launch()
            time.sleep(self.rng.uniform(*RECOVERY_S))
            world.disk.cut()
            world.kill()
            world.disk.again()
            self.cuts[kind] += 1
        if not world.start():
            raise Violation(f"the server does not start: {(world.dir / 'serve.err').read_text()[-2000:]}")
        try:
            world.check(seen, cut - BOUND_S)
        finally:
            if world.first_lost is not None:
                self.worst_s = max(self.worst_s, cut - world.first_lost)
        self.durable_cuts += world.durable * (self.total() - before)
        if self.total() // 20 > before // 20:
            print(f"{self.total()} cuts, {time.monotonic() - self.began:.0f} s, {self.violations} violations", flush=True)


def main():
    args = argparse.ArgumentParser(prog="tests/campaigns/powercut")
    args.add_argument("count", type=int, help="how many cuts, over all file systems")
    args.add_argument("--bin", required=True, help="folder of portcullis and portcullis-player")
    args.add_argument("--only", choices=KINDS)
    args.add_argument("--seed", type=int, default=int(time.time()))
    args.add_argument("--seconds", type=int, default=0, help="end after this time; 0: after COUNT only")
    args.add_argument("--keep", help="folder for the state folders of violations")
    args = args.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("run it as root: it mounts, and the target sshd logs root in")
    for tool, package in (("mkfs.ext4", "e2fsprogs"), ("mkfs.xfs", "xfsprogs"), ("losetup", "mount"), ("ssh", "openssh-client"),
                          ("/usr/sbin/sshd", "openssh-server")):
        if not shutil.which(tool):
            raise SystemExit(f"{tool} is missing: apt-get install {package}")
    campaign = Campaign(args)
    campaign.run()
    each = ", ".join(f"{times} on {kind}" for kind, times in campaign.cuts.items()) + f", {campaign.durable_cuts} of them durable"
    lost = "nothing that a client saw was lost" if not campaign.worst_s else \
        f"the oldest byte that was lost had been seen {campaign.worst_s:.2f} s before the cut"
    print(f"{campaign.total()} power cuts in {time.monotonic() - campaign.began:.0f} s ({each}); {campaign.sessions} recordings, "
          f"{lost}, {campaign.violations} violations (seed {args.seed})")
    raise SystemExit(1 if campaign.violations else 0)


if __name__ == "__main__":
    main()
