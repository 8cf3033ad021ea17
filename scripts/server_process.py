"""polyveil-server as a child of scripts that load it: on one port, ended and started again."""
import os
import socket
import subprocess
import sys


class Server:
    """polyveil-server on one port and one folder of state, started again after every end."""

    def __init__(self, program, model, folder, *more, port=None):
        self.port = port or free_port()
        self.command = [program, "--model", model, "--port", str(self.port), *more]
        self.log = open(folder + "/server.log", "w")
        self.start()

    def start(self):
        reader, writer = os.pipe()
        self.process = subprocess.Popen([*self.command, "--ready-fd", str(writer)], pass_fds=[writer], stderr=self.log)
        os.close(writer)
        with os.fdopen(reader) as ready:
            if not ready.readline():
                sys.exit("FAILED: the server does not start: " + open(self.log.name).read()[-500:])

    def end(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait()


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def resident_bytes(pid):
    """What the process holds in memory."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
