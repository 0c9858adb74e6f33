"""Rows of forwards, whose tap is the service that they lead to; and what VS Code's Remote-SSH does with them."""
import concurrent.futures, os, re, signal, socket, subprocess, threading

from case import Case, LIMIT_S, equal, row, same_file, shown
from house import demand

SOCKS5, CONNECT, NO_PROOF, IPV4 = 5, 1, 0, 1
LONG_LIVED = 4
STRICT = ("-o", "ExitOnForwardFailure=yes")


class Echo:
    """A service that sends back what it gets, counts both, and ends when the other side has."""

    def __init__(self, path=None):
        self.listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self.listener.bind(str(path) if path else ("127.0.0.1", 0))
        self.listener.listen(64)
        self.name = self.listener.getsockname()
        self.counts = {"in": 0, "out": 0, "err": 0}
        self.lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self):
        return self.name[1]

    def _accept(self):
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream):
        with stream:
            try:
                while data := stream.recv(1 << 16):
                    # Before it goes: who has it all may look at once.
                    with self.lock:
                        self.counts["in"] += len(data)
                        self.counts["out"] += len(data)
                    stream.sendall(data)
            except OSError:
                pass

    def tap(self, c, back=False):
        """Its counts, as a tap at the target; of a remote forward it is the other way round."""
        n = self.counts
        c.taps.append({"in": n["out"], "out": n["in"], "err": 0} if back else n)


def there_and_back(stream, payload):
    """Sends it, ends, and gives what came until the end."""
    def send():
        with open(payload, "rb") as source:
            stream.sendfile(source)
        stream.shutdown(socket.SHUT_WR)
    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    stream.settimeout(LIMIT_S)
    got = payload.with_suffix(f".{threading.get_ident()}")
    with open(got, "wb") as sink:
        while data := stream.recv(1 << 16):
            sink.write(data)
    sending.join(LIMIT_S)
    stream.close()
    same_file(payload, got)


def tcp(port):
    return socket.create_connection(("127.0.0.1", port), LIMIT_S)


def unix(path):
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(str(path))
    return stream


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Master:
    """A client in the background that only forwards."""

    def __init__(self, c, *options):
        self.c, self.control = c, c.background(*STRICT, *options)

    def forward(self, *what):
        """Asks for a forward on it; gives what was answered."""
        return self.c.ssh(options=("-S", self.control, "-O", "forward", *what)).stdout

    def end(self):
        self.c.leave(self.control)


@row("ssh", "-L to a port at the target", quick=True, recordings=1)
def local(c: Case):
    echo, port = Echo(), free_port()
    master = Master(c, "-L", f"127.0.0.1:{port}:127.0.0.1:{echo.port}")
    there_and_back(tcp(port), c.payload(c.here))
    master.end()
    echo.tap(c)


@row("ssh", "-L to a socket at the target", recordings=1)
def local_unix(c: Case):
    echo = Echo(c.there / "s")
    master = Master(c, "-L", f"{c.here}/l:{c.there}/s")
    there_and_back(unix(c.here / "l"), c.payload(c.here))
    master.end()
    echo.tap(c)


@row("ssh", "-L to a port where nobody listens", recordings=1)
def local_refused(c: Case):
    port = free_port()
    master = Master(c, "-L", f"127.0.0.1:{port}:127.0.0.1:{free_port()}")
    equal(tcp(port).recv(1), b"", "what came")
    equal(c.ssh("echo on", options=("-S", master.control)).stdout, b"on\n", "a session beside it")
    master.end()


@row("ssh", "-R 0: a port at the target", quick=True, recordings=1)
def remote(c: Case):
    echo = Echo()
    master = Master(c)
    port = int(master.forward("-R", f"0:127.0.0.1:{echo.port}"))
    there_and_back(tcp(port), c.payload(c.here))
    master.c.ssh(options=("-S", master.control, "-O", "cancel", "-R", f"0:127.0.0.1:{echo.port}"), code=None)
    master.end()
    echo.tap(c, back=True)


@row("ssh", "-R: a socket at the target", recordings=1)
def remote_unix(c: Case):
    echo = Echo(c.here / "s")
    master = Master(c, "-R", f"{c.there}/l:{c.here}/s")
    there_and_back(unix(c.there / "l"), c.payload(c.here))
    master.end()
    echo.tap(c, back=True)


@row("ssh", "-W", quick=True, recordings=1)
def stdio(c: Case):
    echo, payload = Echo(), c.payload(c.here)
    with open(payload, "rb") as source, open(c.here / "got", "wb") as sink:
        c.ssh(options=("-W", f"127.0.0.1:{echo.port}"), stdin=source, stdout=sink)
    same_file(payload, c.here / "got")
    echo.tap(c)


def socks(port, to):
    """Through `ssh -D` (RFC 1928), to a port of the target's loopback."""
    stream = tcp(port)
    stream.sendall(bytes([SOCKS5, 1, NO_PROOF]))
    equal(stream.recv(2), bytes([SOCKS5, NO_PROOF]), "the proxy's method")
    stream.sendall(bytes([SOCKS5, CONNECT, 0, IPV4, 127, 0, 0, 1]) + to.to_bytes(2, "big"))
    answer = stream.recv(10)
    demand(answer[:2] == bytes([SOCKS5, 0]), f"the proxy says {answer!r}")
    return stream


@row("ssh", "-D: eight connections at once", recordings=1)
def dynamic(c: Case):
    echo, port = Echo(), free_port()
    master = Master(c, "-D", f"127.0.0.1:{port}")
    payloads = [c.file(c.here, f"p{n}", 2 << 20) for n in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda payload: there_and_back(socks(port, echo.port), payload), payloads))
    master.end()
    echo.tap(c)


@row("ssh", "a forward that was not granted", quick=True, target="narrow")
def not_granted(c: Case):
    echo, port = Echo(), free_port()
    master = Master(c, "-L", f"127.0.0.1:{port}:127.0.0.1:{echo.port}")
    equal(tcp(port).recv(1), b"", "what came")
    equal(c.ssh("echo on", options=("-S", master.control)).stdout, b"on\n", "a session beside it")
    master.end()
    equal(echo.counts["in"], 0, "bytes that crossed")


def library_rows():
    from libraries import asyncssh, call, go, libssh, paramiko
    for name, library in (("paramiko", paramiko), ("asyncssh", asyncssh), ("go", go), ("libssh", libssh)):
        @row(name, "a connection to the target's loopback", recordings=1)
        def direct(c: Case, library=library):
            echo, payload = Echo(), c.payload(c.here)
            with open(payload, "rb") as source, open(c.here / "got", "wb") as sink:
                call(c, library, "forward", "127.0.0.1", echo.port, stdin=source, stdout=sink)
            same_file(payload, c.here / "got")
            echo.tap(c)


library_rows()


# What Remote-SSH sends to the shell that it starts: it unpacks a server, starts it apart from the session, and says where
# it listens.
BOOTSTRAP = r"""
set -e
mkdir -p {there}/server && cd {there}/server
echo "checking" >&2
cat > server.py <<'END_OF_SERVER'
{server}
END_OF_SERVER
setsid python3 server.py >log 2>&1 </dev/null &
n=0
while ! [ -s port ] && [ $n -lt 200 ]; do n=$((n+1)); sleep 0.05; done
echo "4f2e: start"
echo "listeningOn==$(cat port)=="
echo "osReleaseId==$(. /etc/os-release; echo $ID)=="
echo "4f2e: end"
"""
# An echo on the target's loopback that ends by itself.
SERVER = """
import os, socketserver, threading
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
socketserver.ThreadingTCPServer.daemon_threads = True
with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
    with open("port.new", "w") as file:
        file.write(str(server.server_address[1]))
    os.rename("port.new", "port")
    threading.Timer(60, lambda: os._exit(0)).start()
    with open("pid", "w") as file:
        file.write(str(os.getpid()))
    server.serve_forever()
"""


@row("vscode", "bootstrap over stdin, -D, long-lived channels", quick=True, recordings=1)
def remote_ssh(c: Case):
    port, script = free_port(), BOOTSTRAP.format(there=c.there, server=SERVER.strip())
    options = ("-v", "-T", "-D", f"127.0.0.1:{port}", "-o", "ConnectTimeout=15")
    child = c.start(c.ssh_command("bash", options=options), stdin=subprocess.PIPE)
    child.stdin.write(script.encode())
    child.stdin.flush()
    said = b""
    while b"4f2e: end" not in said:
        line = child.stdout.readline()
        demand(line, f"ended after {shown(said)}")
        said += line
    listens = re.search(rb"listeningOn==(\d+)==", said)
    demand(listens, f"said {shown(said)}")
    try:
        streams = [socks(port, int(listens[1])) for _ in range(LONG_LIVED)]
        sent = 0
        # Many small messages back and forth, as an editor's protocol, on all of them by turns.
        for n in range(200):
            for stream in streams:
                message = f"{n} ".encode() * (1 + n % 50)
                stream.sendall(message)
                sent += len(message)
                got = b""
                while len(got) < len(message):
                    more = stream.recv(1 << 16)
                    demand(more, "a channel ended")
                    got += more
                equal(got, message, "the answer")
        # A new one beside those that stay, with a file's worth.
        payload = c.payload(c.here)
        there_and_back(socks(port, int(listens[1])), payload)
        sent += payload.stat().st_size
        # Another command of the shell that is still there.
        child.stdin.write(b"echo still $((40+2))\n")
        child.stdin.flush()
        equal(child.stdout.readline(), b"still 42\n", "the shell's answer")
        for stream in streams:
            stream.close()
        child.stdin.close()
        equal(child.wait(LIMIT_S), 0, "exit code")
        c.taps.append({"in": sent, "out": sent, "err": 0})
    finally:
        os.kill(int((c.there / "server" / "pid").read_text()), signal.SIGTERM)
