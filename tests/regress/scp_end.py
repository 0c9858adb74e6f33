"""Stands in for scp-ssh-wrapper.sh, which OpenSSH's scp tests run in place of ssh: it starts the far end of scp on
the spot, or plays a hostile one. Here OpenSSH's own wrapper does that at the target, at the far end of a connection
through the gate.
"""
import json
import os
import pathlib
import shlex
import sys


def main():
    house = json.loads(pathlib.Path(sys.argv[1]).read_text())
    command = sys.argv[-1]
    names = [name for name in ("DIR", "SCP", "SCPTESTMODE") if name in os.environ]
    told = [f"{name}={os.environ[name]}" for name in names]
    far = shlex.join(["env", *told, "sh", f"{house['package']}/scp-ssh-wrapper.sh", command])
    ssh = f"{house['root']}/ssh"
    os.execv(ssh, [ssh, "-F", f"{house['obj']}/ssh_proxy", "somehost", f"cd {shlex.quote(os.getcwd())} && {far}"])


if __name__ == "__main__":
    main()
