"""A client made with paramiko. Arguments: HOST PORT USER KEY CERTIFICATE KNOWN_HOSTS JUMP OPERATION [ARGUMENT...]

CERTIFICATE is `-` for the bare key; JUMP is `-` or HOST:PORT:USER of an outer connection. Operations: `exec COMMAND`,
`terminal COMMAND`, `many N COMMAND`, `put LOCAL REMOTE`, `get REMOTE LOCAL`, `forward HOST PORT`. The exit code is the
program's at the target; 254 says that it ended by a signal, 255 that the connection failed.
"""
import sys, threading

import paramiko

ENDED_BY_SIGNAL, FAILED = 254, 255
BLOCK = 1 << 15


def connect(host, port, user, key, certificate, known_hosts, sock=None):
    client = paramiko.SSHClient()
    client.load_host_keys(known_hosts)
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    proof = paramiko.Ed25519Key.from_private_key_file(key)
    if certificate != "-":
        proof.load_certificate(certificate)
    client.connect(host, int(port), user, pkey=proof, sock=sock, allow_agent=False, look_for_keys=False, timeout=20)
    return client


def feed(channel):
    """Standard input, and its end."""
    while data := sys.stdin.buffer.raw.read(BLOCK):
        channel.sendall(data)
    channel.shutdown_write()


def drain(read, sink):
    while data := read(BLOCK):
        sink.write(data)
        sink.flush()


def relay(channel):
    threading.Thread(target=feed, args=(channel,), daemon=True).start()
    errors = threading.Thread(target=drain, args=(channel.recv_stderr, sys.stderr.buffer))
    errors.start()
    drain(channel.recv, sys.stdout.buffer)
    errors.join()


def ended(channel):
    # paramiko keeps no exit-signal: without a status it says -1.
    code = channel.recv_exit_status()
    return ENDED_BY_SIGNAL if code == -1 else code


def run(client, command, terminal):
    channel = client.get_transport().open_session()
    if terminal:
        channel.get_pty("xterm", 100, 30)
    channel.exec_command(command)
    relay(channel)
    return ended(channel)


def many(client, count, command):
    """So many channels at once, their output one after the other."""
    channels = [client.get_transport().open_session() for _ in range(count)]
    for channel in channels:
        channel.exec_command(command)
    code = 0
    for channel in channels:
        drain(channel.recv, sys.stdout.buffer)
        code = max(code, ended(channel))
    return code


def main(host, port, user, key, certificate, known_hosts, jump, operation, *arguments):
    sock = None
    if jump != "-":
        outer_host, outer_port, outer_user = jump.split(":")
        outer = connect(outer_host, outer_port, outer_user, key, certificate, known_hosts)
        sock = outer.get_transport().open_channel("direct-tcpip", (host, int(port)), ("127.0.0.1", 0))
    client = connect(host, port, user, key, certificate, known_hosts, sock)
    try:
        if operation in ("exec", "terminal"):
            return run(client, arguments[0], operation == "terminal")
        if operation == "many":
            return many(client, int(arguments[0]), arguments[1])
        if operation == "forward":
            relay(client.get_transport().open_channel("direct-tcpip", (arguments[0], int(arguments[1])), ("127.0.0.1", 0)))
            return 0
        with client.open_sftp() as sftp:
            {"put": sftp.put, "get": sftp.get}[operation](*arguments)
        return 0
    finally:
        client.close()


try:
    sys.exit(main(*sys.argv[1:]))
except (paramiko.SSHException, OSError) as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(FAILED)
