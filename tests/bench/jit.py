"""The figures of just-in-time access in a large house: decisions, certificates and revocation, in one table.

Usage: tests/bench/run jit [--sessions N] [--issues N]

Decisions and connects come from `benches/jit.rs`. Certificates are issued by a real server over the API's socket, with
the same policies and as many grants in its store, one call at a time and slower than its rate limit. Revocation is seen
by a tap before the bastion, as in `tests/bench/run gate --only cut`.
"""
import argparse, json, os, sqlite3, subprocess, tempfile, threading, time

from gate import Rig, Socket, lateness, revoked

GRANTS = 10_000
# The API takes 50 calls a second of one caller.
PACE_S = 0.025
ISSUE_GOAL_MS, CUT_GOAL_MS = 10, 50


class House(Rig):
    """A bastion with the policies of the bench's house and grants of earlier days."""

    def configured(self, text):
        bench("--write-policies", self.state / "policies")
        store = sqlite3.connect(self.state / "store.db")
        now = int(time.time() * 1000)
        old = [(f"{n:032x}", "old", "root", "old", now - 7_200_000, now + 7_200_000, "[]", '["shell"]', "INC-1", "root",
                bytes(32), n.to_bytes(32, "big"), n, 0) for n in range(1, GRANTS + 1)]
        identity = {"name": "old", "kind": "person"}
        target = {"name": "old", "logins": ["root"], "reach": {"kind": "local", "command": [], "run_as": "nobody"}}
        with store:
            store.execute("INSERT INTO identity (name, body) VALUES ('old', ?)", [json.dumps(identity)])
            store.execute("INSERT INTO target (name, body) VALUES ('old', ?)", [json.dumps(target)])
            store.executemany(
                "INSERT INTO access_grant (id, identity, login, target, from_ms, until_ms, sources, capabilities, reason, "
                "issued_by, policy_digest, certificate_sha256, certificate_serial, single_use) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", old)
            store.execute("UPDATE counter SET value = ? WHERE name = 'certificate_serial'", [GRANTS])
        store.close()
        return text


def bench(*args):
    subprocess.run(["cargo", "bench", "--quiet", "-p", "portcullis", "--bench", "jit", "--", *args], check=True)


def row(what, p50, p99, said):
    print(f"| {what:<70} | {p50:<12} | {p99:<12} | {said:<28} |", flush=True)


def goal(value, most):
    return f"p99 under {most}ms: {'held' if value < most else 'MISSED'}"


class Calls:
    """POSTs over one connection, timed."""

    def __init__(self, rig):
        self.api = Socket(rig.state / "api.sock")

    def post(self, path, body):
        began = time.perf_counter()
        self.api.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = self.api.getresponse()
        text = answer.read()
        took = (time.perf_counter() - began) * 1000
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {text.decode()}")
        return json.loads(text), took

    def often(self, what, path, body, count):
        took = []
        for _ in range(count):
            began = time.perf_counter()
            took.append(self.post(path, body)[1])
            time.sleep(max(0.0, PACE_S - (time.perf_counter() - began)))
        took.sort()
        p50, p99 = took[count // 2], took[int(count * 0.99) - 1]
        row(f"{what}, {count} times", f"{p50:.3f} ms", f"{p99:.3f} ms", goal(p99, ISSUE_GOAL_MS))


def issue(rig, count):
    """By an admin, and for an approved request: policy, serial, signature, ledger and row, each on the disk."""
    key = (rig.dir / "id.pub").read_text().strip()
    calls = Calls(rig)
    grant = {"identity": "alice", "destination": "root@db1", "for_secs": 1800, "reason": "bench", "public_key": key,
             "allow": ["shell", "exec"]}
    calls.often("certificate: issued by an admin", "/v1/grants", grant, count)
    rig.run("--state", rig.state, "identity", "add", "job", "--kind", "machine", "--owner", "alice", "--purpose", "bench")
    rig.run("--state", rig.state, "target", "add", "db2", "--addr", f"127.0.0.1:{rig.target_port}", "--login", "root",
            "--host-key", rig.dir / "hk.pub", "--label", "allow=machines")
    asked, _ = calls.post("/v1/requests", {"identity": "job", "destination": "root@db2", "for_secs": 1800, "reason": "bench",
                                           "allow": ["exec"], "public_key": key})
    calls.often("certificate: collected by request", f"/v1/requests/{asked['request']['id']}/collect", {}, count)


def cut(rig, sessions):
    tap, began = revoked(rig, sessions)
    p99, worst, seen = lateness(tap, began)
    row(f"revoke to the last payload byte, {seen} sessions", f"worst {worst:.0f} ms", f"{p99:.0f} ms", goal(p99, CUT_GOAL_MS))


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--bin", required=True)
    args.add_argument("--sessions", type=int, default=200)
    args.add_argument("--issues", type=int, default=400)
    args = args.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("run it as root: the target sshd logs root in")
    threading.stack_size(256 * 1024)
    with tempfile.TemporaryDirectory(prefix="pcbench") as folder:
        rig = House(args.bin, folder)
        try:
            print(f"load average at the start: {os.getloadavg()[0]:.1f}", flush=True)
            row("what", "p50", "p99", "goal")
            bench()
            issue(rig, args.issues)
            cut(rig, args.sessions)
        finally:
            rig.close()


if __name__ == "__main__":
    main()
