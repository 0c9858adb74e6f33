"""Runs OpenSSH's regression tests through the gate, several at once, and says how each went."""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
PACKAGE = pathlib.Path("/usr/lib/openssh/regress")
LIMIT_SECS = 300
# Beyond the test's own limit: making the gate, verifying what it recorded.
HOUSE_SECS = 180
EXCEPTIONS_MAX = 6
FORMS = ("direct", "jump", "bare")


def known_tests():
    """All the tests of the package that talk SSH: those of its Makefile."""
    text = (PACKAGE / "Makefile").read_text().replace("\\\n", " ")
    lists = re.findall(r"^(?:LTESTS|INTEROP_TESTS)\s*\+?=(.*)$", text, re.MULTILINE)
    return [name for line in lists for name in line.split() if name.isidentifier() or re.fullmatch(r"[a-z0-9-]+", name)]


def tables():
    tests = tomllib.loads((HERE / "tests.toml").read_text())
    exceptions = tomllib.loads((HERE / "exceptions.toml").read_text())["exception"]
    runs, other = tests["run"], tests["not_applicable"]
    listed = [*runs, *other, *exceptions]
    package = known_tests()
    version = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "openssh-tests"], capture_output=True, text=True).stdout
    wrong = [f"{name}: in the package, and in no table" for name in package if name not in listed]
    wrong += [f"{name}: in a table, and not in the package" for name in listed if name not in package]
    if not version.startswith(tests["package"]):
        # Another release's suite: what nobody has looked at yet is named, and what it lacks is left out.
        for line in wrong:
            print(f"note: openssh-tests {version}: {line}")
        wrong, runs = [], {name: test for name, test in runs.items() if name in package}
    wrong += [f"{name}: in two tables" for name in set(listed) if listed.count(name) > 1]
    if len(exceptions) > EXCEPTIONS_MAX:
        wrong.append(f"{len(exceptions)} exceptions, at most {EXCEPTIONS_MAX}")
    return runs, other, exceptions, wrong


def run_one(name, test, form, options, scratch):
    root = pathlib.Path(scratch) / f"{form[0]}-{name}"
    root.mkdir()
    limit = test.get("secs", LIMIT_SECS)
    order = {"name": name, "root": str(root), "bin": options.bin, "form": form, "test": test, "limit": limit}
    # A shell first: it reaps what a test leaves to process 1.
    inside = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", '"$@"; exit $?', "-",
              sys.executable, str(HERE / "house.py"), json.dumps(order)]
    with open(root / "house.log", "wb") as log:
        try:
            subprocess.run(inside, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=limit + HOUSE_SECS)
        except subprocess.TimeoutExpired:
            pass
    if not (root / "result.json").exists():
        said = (root / "house.log").read_text(errors="replace").strip()
        return {"name": name, "ok": False, "sessions": 0, "secs": 0, "why": f"ended without a result: {said[-300:]}"}
    return json.loads((root / "result.json").read_text())


def say(result, form, test):
    verdict = "ok" if result["ok"] else "FAILED"
    # Recordings of a test that failed do not have to be whole.
    sealed = "" if form == "bare" else f"{result['sessions']:4} sessions SEALED" if result["ok"] else " " * 20
    note = f"  ({test['note']})" if result["ok"] and "note" in test and form != "bare" else ""
    why = f"  {result['why']}" if result["why"] else ""
    print(f"{verdict:6} {form:6} {result['name']:20} {result['secs']:6.1f} s {sealed}{note}{why}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--quick", action="store_true", help="the short ones")
    parser.add_argument("--only", action="append", default=[], help="one test; may be given several times")
    parser.add_argument("--form", choices=("direct", "jump", "both", "bare"), default="direct",
                        help="how the client names the target; bare: without the gate")
    parser.add_argument("--jobs", type=int, default=max(4, 2 * (os.cpu_count() or 1)), help="tests at the same time")
    parser.add_argument("--list", action="store_true", help="every test and what it does here")
    parser.add_argument("--keep", action="store_true", help="keep the folders of tests that failed")
    options = parser.parse_args()
    runs, other, exceptions, wrong = tables()
    if options.list:
        for name, test in sorted(runs.items()):
            print(f"run             {name:20} {test.get('note', '')}")
        for table, what in ((exceptions, "exception"), (other, "not applicable")):
            for name, reason in sorted(table.items()):
                print(f"{what:15} {name:20} {reason}")
    unknown = [name for name in options.only if name not in runs]
    if unknown:
        sys.exit(f"not among the tests that run: {', '.join(unknown)} (see --list)")
    names = options.only or [name for name, test in runs.items() if test.get("quick") or not options.quick]
    forms = ("direct", "jump") if options.form == "both" else (options.form,)
    jobs = [(name, form) for form in forms for name in names if form in runs[name].get("forms", FORMS)]
    # The longest first.
    jobs.sort(key=lambda job: -runs[job[0]].get("takes", 0))
    for line in wrong:
        print(f"FAILED tables {line}")
    passed, failed = 0, len(wrong)
    began = time.monotonic()
    # A short name: control sockets lie below it, and their paths are bounded.
    scratch = tempfile.mkdtemp(prefix="pcr.", dir="/tmp")
    pathlib.Path(scratch).chmod(0o755)
    try:
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            waiting = {}
            if not options.list:
                waiting = {pool.submit(run_one, name, runs[name], form, options, scratch): (name, form) for name, form in jobs}
            for done in concurrent.futures.as_completed(waiting):
                name, form = waiting[done]
                result = done.result()
                say(result, form, runs[name])
                passed, failed = passed + result["ok"], failed + (not result["ok"])
                if result["ok"] or not options.keep:
                    shutil.rmtree(pathlib.Path(scratch) / f"{form[0]}-{name}", ignore_errors=True)
    finally:
        if options.keep and failed:
            print(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    if options.list:
        sys.exit(1 if wrong else 0)
    print(f"{len(exceptions)} exceptions (exceptions.toml), {len(other)} do not apply (tests.toml), {time.monotonic() - began:.0f} s")
    print(f"{passed} passed, {failed} failed")
    sys.exit(0 if failed == 0 and passed > 0 else 1)


if __name__ == "__main__":
    main()
