"""The client matrix: real programs against a real bastion, client by operation by form.

A row passes if the program does what it would do without us, its recordings are SEALED and in the ledger, their byte
accounts reconcile, and they equal what a tap at the target has counted.
"""
import argparse, os, pathlib, re, shutil, sys, tempfile, time, traceback

# Each adds its rows.
import openssh, tools, libraries, putty, forwards, targets  # noqa: F401, E401
from case import Case, FORMS, ROWS
from house import Fault, House, compare, demand


def run(house, row, form, quick):
    """What is wrong with it; nothing if nothing is."""
    since, taps, recordings = house.tap_log.stat().st_size, [], []

    def work():
        with tempfile.TemporaryDirectory(prefix="row", dir=house.dir) as folder, Case(house, row, form, folder, quick) as case:
            row.run(case)
            taps.extend(case.taps)

    wrong = fault_of(work)
    # Of a row that failed as well, so that its recordings are not taken for the next one's.
    unsealed = fault_of(lambda: recordings.extend(house.recorded()))
    return wrong or unsealed or fault_of(lambda: judge(row, recordings, house.tapped(since) + taps))


def judge(row, recordings, taps):
    wanted = row.recordings
    enough = bool(recordings) if wanted is None else len(recordings) == wanted
    demand(enough, f"{len(recordings)} recordings, not {'one or more' if wanted is None else wanted}")
    compare(recordings, taps, row.tapped)


def fault_of(work):
    try:
        work()
    except Fault as fault:
        return str(fault)
    except Exception:
        return traceback.format_exc()
    return None


def main():
    args = argparse.ArgumentParser(prog="tests/clients/run", description=__doc__)
    args.add_argument("--bin", required=True, help="folder of portcullis and portcullis-player")
    args.add_argument("--tools", required=True, help="folder of the clients that were built, and of the Python environment")
    args.add_argument("--quick", action="store_true", help="a part of it, with less to carry: some two minutes")
    args.add_argument("--form", choices=FORMS, action="append", help="this form only: the user name, or -J")
    args.add_argument("--only", help="rows whose `client: operation` matches this pattern")
    args.add_argument("--keep", action="store_true", help="leave the folder with everything behind")
    args = args.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("run it as root: the target sshd logs root in")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pcclients"))
    house, failed, passed = None, [], 0
    try:
        house = House(args.bin, folder, pathlib.Path(args.tools), targets.SERVERS)
        for row in ROWS:
            name = f"{row.client}: {row.operation}"
            if args.quick and not row.quick or args.only and not re.search(args.only, name):
                continue
            if row.needs and not os.path.exists(row.needs):
                print(f"left out: {name}: there is no {row.needs} on this machine")
                continue
            for form in args.form or FORMS:
                if form not in row.forms:
                    continue
                began = time.monotonic()
                wrong = run(house, row, form, args.quick)
                passed += wrong is None
                result, took = "FAILED" if wrong else "ok", time.monotonic() - began
                print(f"{result:6}  {form:6}  {row.client:11}  {row.operation:50} {took:6.1f} s", flush=True)
                if wrong:
                    failed.append(f"{name} ({form})")
                    print("        " + wrong.strip().replace("\n", "\n        "), flush=True)
    finally:
        if house:
            house.close()
        if args.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    for name in failed:
        print(f"failed: {name}")
    print(f"{passed} passed, {len(failed)} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
