"""A network device: an SSH server that asks for a password by keyboard-interactive and has a prompt of its own, with a
terminal or without. Nothing runs as a command; there are no files and no forwards. Arguments: PORT HOST_KEY LOGIN PASSWORD
"""
import asyncio, sys

import asyncssh

PROMPT = "switch>"
COUNTERS = "".join(f"Gi0/{n}  up  up  in {n * 977} out {n * 991}\n" for n in range(2000))


class Device(asyncssh.SSHServer):
    def __init__(self, login, password):
        self.login, self.password = login, password

    def begin_auth(self, _):
        return True

    def public_key_auth_supported(self):
        return False

    def password_auth_supported(self):
        return False

    def kbdint_auth_supported(self):
        return True

    def get_kbdint_challenge(self, *_):
        return "", "Switch 3000\n", "", [("Password: ", False)]

    def validate_kbdint_response(self, login, answers):
        return login == self.login and list(answers) == [self.password]


async def talk(process):
    if process.command or process.subsystem:
        process.exit(1)
        return
    process.stdout.write(f"\nSwitch 3000, 24 ports\n{PROMPT} ")
    while line := await process.stdin.readline():
        command = line.strip()
        if command == "exit":
            break
        if command == "show version":
            process.stdout.write("Software 1.2.3\n")
        elif command == "show counters":
            process.stdout.write(COUNTERS)
        elif command:
            process.stdout.write("% Unknown command\n")
        process.stdout.write(f"{PROMPT} ")
        await process.stdout.drain()
    process.exit(0)


async def main(port, host_key, login, password):
    await asyncssh.listen("127.0.0.1", int(port), server_factory=lambda: Device(login, password), server_host_keys=[host_key],
                          process_factory=talk)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
