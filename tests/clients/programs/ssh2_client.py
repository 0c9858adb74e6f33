"""A client made with libssh2. Arguments and exit codes as in paramiko_client.py, `exec COMMAND` only and no jump. It
shows how a client fares that offers its bare key, or a certificate if its libssh2 knows them."""
import socket, sys

from ssh2.exceptions import SSH2Error
from ssh2.session import Session

FAILED = 255
LIMIT_S = 20


def main(host, port, user, key, certificate, _known_hosts, _jump, operation, command):
    assert operation == "exec", operation
    session = Session()
    session.handshake(socket.create_connection((host, int(port)), LIMIT_S))
    public = key + ".pub" if certificate == "-" else certificate
    session.userauth_publickey_fromfile(user, key, "", public)
    channel = session.open_session()
    channel.execute(command)
    while True:
        got, data = channel.read()
        if got <= 0:
            break
        sys.stdout.buffer.write(data)
    channel.wait_eof()
    channel.close()
    channel.wait_closed()
    return channel.get_exit_status()


try:
    sys.exit(main(*sys.argv[1:]))
except (SSH2Error, OSError) as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(FAILED)
