#!/usr/bin/env python3
"""A crowd of connections that say nothing, or say it slowly, far beyond the server's limit: others must be answered
within a second. Ten thousand by hand, some hundred in the tests; all of it on 127.0.0.1.
Usage: crowd_server.py SERVER MODEL [--connections N] [--seconds S] [--parameters SET]"""
import argparse
import http.client
import resource
import selectors
import signal
import socket
import sys
import tempfile
import threading
import time

from server_process import Server, resident_bytes

HEADER = b"PUT /v1/keys/chunks/0 HTTP/1.1\r\nHost: localhost\r\nX-Polyveil-Handle: a\r\n"
# What a connection sends, a byte every half second: nothing, a header without end, a body.
KINDS = {"idle": b"", "a slow header": b"GET /health/live HTTP/1.1\r\nX-Slow: " + b"a" * 4096,
         "a slow body": HEADER + b"Content-Length: 4096\r\n\r\n" + b"a" * 4096}


class Crowd(threading.Thread):
    """Opens the connections, feeds the slow ones, and opens `again` new ones a second where the server closes some."""

    def __init__(self, port, count, again):
        super().__init__(daemon=True)
        self.port, self.count, self.again = port, count, again
        self.stop, self.full = threading.Event(), threading.Event()
        self.opened = self.closed = 0
        self.open, self.selector = {}, selectors.DefaultSelector()

    def connect(self):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", self.port))
        self.open[sock] = [list(KINDS.values())[self.opened % len(KINDS)], 0]
        self.selector.register(sock, selectors.EVENT_READ)
        self.opened += 1

    def close(self, sock):
        self.selector.unregister(sock)
        del self.open[sock]
        sock.close()
        self.closed += 1

    def listen(self):
        """Forgets those that the server has ended."""
        for key, _ in self.selector.select(0):
            try:
                if not key.fileobj.recv(4096):
                    self.close(key.fileobj)
            except BlockingIOError:
                pass
            except OSError:
                self.close(key.fileobj)

    def feed(self):
        for sock, (text, sent) in list(self.open.items()):
            if sent >= len(text):
                continue
            count = len(HEADER) if sent == 0 else 1
            try:
                sock.send(text[sent:sent + count])
                self.open[sock][1] += count
            except BlockingIOError:
                pass
            except OSError:
                self.close(sock)

    def run(self):
        while self.opened < self.count and not self.stop.is_set():
            for _ in range(min(200, self.count - self.opened)):
                self.connect()
            self.listen()
        self.full.set()
        while not self.stop.is_set():
            self.feed()
            for _ in range(min(self.again // 2, self.count - len(self.open))):
                self.connect()
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                self.listen()
                time.sleep(0.02)
        for sock in list(self.open):
            self.close(sock)


def answer_seconds(port):
    """Until the server has answered one of the others, asked again where it has no place; and how often it had none."""
    begin, refused = time.monotonic(), 0
    while time.monotonic() - begin < 10:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health/live")
            status = connection.getresponse().status
            if status == 200:
                break
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        refused += 1
        time.sleep(0.05)
    return time.monotonic() - begin, refused


def measure(options, server):
    crowd = Crowd(server.port, options.connections, options.again)
    crowd.start()
    seconds, refused, most, kept = [], 0, 0, 0
    until = time.monotonic() + options.seconds
    while time.monotonic() < until or not crowd.full.is_set():
        taken, times = answer_seconds(server.port)
        seconds.append(taken)
        refused += times
        most, kept = max(most, resident_bytes(server.process.pid)), max(kept, len(crowd.open))
        time.sleep(0.05)
    crowd.stop.set()
    crowd.join()
    seconds.sort()
    print(f"{crowd.opened} connections ({', '.join(KINDS)} in turn), {kept} at a time, {crowd.closed} ended by the server: "
          f"{len(seconds)} others answered after {1000 * seconds[len(seconds) // 2]:.0f} ms in the middle, "
          f"{1000 * seconds[-1]:.0f} ms at most, {refused} attempts found no place; memory {most / 1e6:.1f} MB at most")
    return seconds[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("server", "model"):
        parser.add_argument(name)
    for name, default in (("connections", 10000), ("again", 40)):
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--parameters", default="test10")
    options = parser.parse_args()
    wanted = options.connections + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    with tempfile.TemporaryDirectory() as folder:
        server = Server(options.server, options.model, folder, "--parameters", options.parameters, "--threads", "1")
        try:
            worst = measure(options, server)
        finally:
            status = server.end(signal.SIGTERM)
    return 1 if worst > 1 or status != 0 else 0


sys.exit(main())
