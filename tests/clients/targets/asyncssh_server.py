"""An SSH server made with asyncssh that runs what it is asked to. Arguments: PORT HOST_KEY CA_PUB

It admits root by a certificate of that authority; files by sftp and scp, forwards both ways, no terminals.
"""
import asyncio, os, signal, sys

import asyncssh

BLOCK = 1 << 16


class Server(asyncssh.SSHServer):
    def connection_requested(self, *_):
        return True

    def server_requested(self, *_):
        return True


async def feed(process, child):
    """Input, its end, and signals, which come in the same order."""
    while True:
        try:
            data = await process.stdin.read(BLOCK)
        except asyncssh.SignalReceived as received:
            os.killpg(child.pid, signal.Signals[f"SIG{received.signal}"])
            continue
        except (asyncssh.BreakReceived, asyncssh.TerminalSizeChanged):
            continue
        if not data:
            break
        try:
            child.stdin.write(data)
            await child.stdin.drain()
        except ConnectionError:
            break
    child.stdin.close()


async def drain(source, sink):
    while data := await source.read(BLOCK):
        sink.write(data)
        await sink.drain()


async def run(process):
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec("/bin/sh", *(["-c", process.command] if process.command else []),
                                                 stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    feeding = asyncio.create_task(feed(process, child))
    try:
        await asyncio.gather(drain(child.stdout, process.stdout), drain(child.stderr, process.stderr))
    except asyncssh.Error:
        os.killpg(child.pid, signal.SIGTERM)
    code = await child.wait()
    feeding.cancel()
    if code < 0:
        process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
    else:
        process.exit(code)


async def main(port, host_key, authority):
    with open(authority) as file:
        trusted = asyncssh.import_authorized_keys("cert-authority " + file.read())
    await asyncssh.listen("127.0.0.1", int(port), server_factory=Server, server_host_keys=[host_key],
                          authorized_client_keys=trusted, process_factory=run, sftp_factory=True, allow_scp=True,
                          encoding=None, line_editor=False)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
