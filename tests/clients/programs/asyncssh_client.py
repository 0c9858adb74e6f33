"""A client made with asyncssh. Arguments and exit codes as in paramiko_client.py; beside those operations
`send-signal NAME COMMAND` runs a program and sends it that signal once it has said something."""
import asyncio, os, sys

import asyncssh

ENDED_BY_SIGNAL, FAILED = 254, 255
BLOCK = 1 << 16


async def connect(host, port, user, key, certificate, known_hosts, tunnel=None):
    proof = key if certificate == "-" else (key, certificate)
    return await asyncssh.connect(host, int(port), username=user, client_keys=[proof], known_hosts=known_hosts, config=None,
                                  tunnel=tunnel, agent_path=None)


async def feed(sink):
    """Standard input, and its end."""
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.run_in_executor(None, sys.stdin.buffer.raw.read, BLOCK):
            sink.write(data)
            await sink.drain()
        sink.write_eof()
    except (BrokenPipeError, ConnectionError, asyncssh.Error):
        pass


async def drain(source, sink):
    while data := await source.read(BLOCK):
        sink.write(data)
        sink.flush()


def code_of(process):
    if process.exit_signal:
        print(f"signal {process.exit_signal[0]}", file=sys.stderr)
        return ENDED_BY_SIGNAL
    return FAILED if process.exit_status is None else process.exit_status


async def run(connection, command, terminal):
    size = {"term_type": "xterm", "term_size": (100, 30)} if terminal else {}
    process = await connection.create_process(command, encoding=None, **size)
    feeding = asyncio.create_task(feed(process.stdin))
    await asyncio.gather(drain(process.stdout, sys.stdout.buffer), drain(process.stderr, sys.stderr.buffer))
    await process.wait_closed()
    feeding.cancel()
    return code_of(process)


async def many(connection, count, command):
    """So many channels at once, their output one after the other."""
    all_done = await asyncio.gather(*(connection.run(command, encoding=None) for _ in range(count)))
    for done in all_done:
        sys.stdout.buffer.write(done.stdout)
    return max(code_of(done) for done in all_done)


async def send_signal(connection, name, command):
    process = await connection.create_process(command, encoding=None)
    sys.stdout.buffer.write(await process.stdout.read(BLOCK))
    process.send_signal(name)
    await drain(process.stdout, sys.stdout.buffer)
    await process.wait_closed()
    return code_of(process)


async def main(host, port, user, key, certificate, known_hosts, jump, operation, *arguments):
    tunnel = None
    if jump != "-":
        tunnel = await connect(*jump.split(":"), key, certificate, known_hosts)
    async with await connect(host, port, user, key, certificate, known_hosts, tunnel) as connection:
        if operation in ("exec", "terminal"):
            return await run(connection, arguments[0], operation == "terminal")
        if operation == "many":
            return await many(connection, int(arguments[0]), arguments[1])
        if operation == "send-signal":
            return await send_signal(connection, *arguments)
        if operation == "forward":
            reader, writer = await connection.open_connection(arguments[0], int(arguments[1]), encoding=None)
            await asyncio.gather(feed(writer), drain(reader, sys.stdout.buffer))
            return 0
        async with connection.start_sftp_client() as sftp:
            await {"put": sftp.put, "get": sftp.get}[operation](*arguments)
        return 0


def ended():
    try:
        return asyncio.run(main(*sys.argv[1:]))
    except (asyncssh.Error, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return FAILED


code = ended()
sys.stdout.flush()
# A thread may still wait for standard input.
os._exit(code)
