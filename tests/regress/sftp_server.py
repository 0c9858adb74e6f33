"""Stands in for `sftp-server` in OpenSSH's tests.

sftp and scp start it themselves with -D, without ssh: then it is the other end of a connection through the gate, as
the sftp subsystem, or as a command where the test gives it arguments. Started by sshd, it is the real one.
"""
import json
import os
import pathlib
import shlex
import sys


def main():
    house = json.loads(pathlib.Path(sys.argv[1]).read_text())
    arguments = sys.argv[2:]
    if "SSH_CONNECTION" in os.environ:
        os.execv(house["sftp_server"], [house["sftp_server"], *arguments])
    ssh = [f"{house['root']}/ssh", "-F", f"{house['obj']}/ssh_proxy"]
    if arguments:
        # A test's script changes into no folder; the target would start at home.
        command = f"cd {shlex.quote(os.getcwd())} && exec {shlex.join([house['sftp_server'], *arguments])}"
        os.execv(ssh[0], [*ssh, "somehost", command])
    os.execv(ssh[0], [*ssh, "-s", "somehost", "sftp"])


if __name__ == "__main__":
    main()
