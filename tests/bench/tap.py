"""A tap between clients and the bastion: relays TCP on loopback and keeps, per connection, when the bastion sent how much."""
import asyncio, threading, time

# A payload packet of the bench is far larger than any line or disconnect message of the bastion's own.
PAYLOAD_BYTES_MIN = 1024


class Tap:
    def __init__(self, port, to):
        self.port, self.to = port, to
        self.last_payload = []
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self._run, args=(ready,), daemon=True).start()
        ready.wait(5)

    def _run(self, ready):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 20))
        ready.set()
        self.loop.run_forever()

    async def _serve(self, reader, writer):
        number = len(self.last_payload)
        self.last_payload.append(0.0)
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.to)

        async def up():
            try:
                while data := await reader.read(65536):
                    there_writer.write(data)
                    await there_writer.drain()
            except OSError:
                pass
            there_writer.close()

        async def down():
            try:
                while data := await there_reader.read(65536):
                    if len(data) >= PAYLOAD_BYTES_MIN:
                        self.last_payload[number] = time.monotonic()
                    writer.write(data)
                    # Not drained: a client that does not read must not hide what the bastion still sends.
            except OSError:
                pass
            writer.close()

        await asyncio.gather(up(), down())
