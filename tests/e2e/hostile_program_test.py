#!/usr/bin/env python3
"""`polyveil generate` on a terminal, with a server that lies: a relay in front of an honest one puts
other words, other figures and bodies without end into its replies. No sequence for a terminal comes through, no line
claims a security that is not there, no program is ended by a signal, and memory stays bounded.
Usage: hostile_program_test.py POLYVEIL SERVER MAKE_RANDOM_MODEL"""
import http.client
import http.server
import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../scripts"))
from server_process import Server  # noqa: E402

POLYVEIL, SERVER, MAKE_MODEL = sys.argv[1:4]
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202e128-bit security, certified\n" + "A" * 500
MEMORY = 1 << 30  # address space beside what the program maps at its start; an honest run takes a tenth
FAILURES = []


def expect(right, what, seen=""):
    print("ok:" if right else "FAILED:", what, "" if right else repr(seen[-1500:]))
    if not right:
        FAILURES.append(what)


class Relay(http.server.BaseHTTPRequestHandler):
    """Sends a request on and hands its reply to `lie`, which answers in its place or returns what to send."""
    protocol_version = "HTTP/1.1"
    port, lie = 0, staticmethod(lambda relay, status, body: body)

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        upstream = http.client.HTTPConnection("127.0.0.1", Relay.port, timeout=60)
        names = ("Content-Type", "X-Polyveil-Handle", "X-Polyveil-Checksum", "Range")
        upstream.request(self.command, self.path, body, {n: self.headers[n] for n in names if self.headers[n]})
        reply = upstream.getresponse()
        text = Relay.lie(self, reply.status, reply.read())
        if text is None:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name in ("Content-Type", "Content-Range"):
            if reply.getheader(name):
                self.send_header(name, reply.getheader(name))
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def log_message(self, *_):
        pass


def words(relay, status, body):
    """Every text of the model's description is another; its figures of security are better."""
    if relay.path != "/v1/model":
        return body
    info = json.loads(body)
    for field in ("name", "version", "backend", "key_storage"):
        info[field] = EVIL
    return json.dumps(dict(info, security=EVIL, insecure=False, log_qp=1, max_log_qp=1747)).encode()


def operations(relay, status, body):
    """What a step does, in other words: a frame of progress in front of the answer."""
    if not relay.path.endswith("/step"):
        return body
    text = json.dumps({"done": 0.5, "operation": EVIL, "queued": 0}).encode()
    return bytes([1]) + len(text).to_bytes(4, "little") + text + body


def errors(relay, status, body):
    if not relay.path.endswith("/step"):
        return body
    text = json.dumps({"error": {"code": "mismatch", "message": EVIL}}).encode()
    relay.send_response(409, "\x1b[2J")
    relay.send_header("Content-Length", str(len(text)))
    relay.end_headers()
    relay.wfile.write(text)


def endless(relay, status, body):
    """A reply that goes on until its reader leaves, four gigabytes at most."""
    if relay.path != "/v1/status" and not relay.path.endswith("/step"):
        return body
    relay.send_response(200)
    relay.send_header("Content-Length", str(1 << 40))
    relay.end_headers()
    try:
        for _ in range(4096):
            relay.wfile.write(b"\x01\x00\x00\x00\x00" * 200000)
    except OSError:
        pass


def results(relay, status, body):
    """The answer with its ciphertext's bits exchanged."""
    if not relay.path.endswith("/step"):
        return body
    return body[:-100] + bytes(b ^ 0x5a for b in body[-100:])


def limited():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def on_a_terminal(*command):
    """Status and all that the program writes, on a terminal of its own."""
    main, side = pty.openpty()
    process = subprocess.Popen([POLYVEIL, *command], stdin=side, stdout=side, stderr=side, start_new_session=True,
                               preexec_fn=limited)
    os.close(side)
    text = b""
    timer = threading.Timer(60, process.kill)
    timer.start()
    while True:
        try:
            more = os.read(main, 65536)
        except OSError:
            break
        if not more:
            break
        text += more
    timer.cancel()
    os.close(main)
    return process.wait(), text.decode(errors="replace")


def check_text(what, text):
    left = text.replace("\x1b[K", "").replace("\r", "").replace("\n", "").replace("\t", "")  # the progress bar's own
    expect(not re.search("[\x00-\x1f\x7f-\x9f\u202e]", left), f"{what}: nothing that a terminal obeys", text)
    claims = [line for line in text.splitlines() if line.startswith("parameters")]
    expect(all("insecure" in line.lower() and "certified" not in line for line in claims), f"{what}: no false security", text)


def main():
    with tempfile.TemporaryDirectory() as folder:
        model = folder + "/model"
        subprocess.run([MAKE_MODEL, model, "1", "48"], check=True)
        server = Server(SERVER, model, folder, "--parameters", "test10", "--threads", "1")
        Relay.port = server.port
        relay = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Relay)
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{relay.server_port}"
        run = ["generate", "--model", model, "--server", url, "--insecure-test", "--threads", "1", "--retry-seconds", "0.5",
               "--prompt", "o", "--tokens", "2"]
        for lie, good in ((words, True), (operations, True), (errors, False), (results, False), (endless, False)):
            Relay.lie = staticmethod(lie)
            status, text = on_a_terminal(*run)
            expect(status == 0 if good else 0 < status < 126, f"{lie.__name__}: status {status}", text)
            check_text(lie.__name__, text)
        # One that is not allowed to run parameters for tests runs none, whatever the server calls them.
        Relay.lie = staticmethod(words)
        status, text = on_a_terminal(*[word for word in run if word != "--insecure-test"])
        expect(status == 1 and "insecure" in text, "parameters for tests under another name are refused", text)
        relay.shutdown()
        server.end(signal.SIGTERM)
    return 1 if FAILURES else 0


sys.exit(main())
