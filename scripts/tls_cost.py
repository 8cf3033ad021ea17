#!/usr/bin/env python3
"""What TLS adds to a token: a handshake, and the bytes of a step up and down, against the same server without it. Both
are measured on loopback; a token's seconds and bytes are what the server plans for the model it serves.
Usage: tls_cost.py SERVER MODEL [--rounds N] [--parameters SET]"""
import argparse
import http.client
import json
import secrets
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

from server_process import Server


def certificate(folder):
    """A certificate of its own authority, for 127.0.0.1."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", folder + "/key.pem", "-out", folder + "/certificate.pem"], check=True, capture_output=True)
    return folder + "/certificate.pem", folder + "/key.pem"


class Peer:
    """A server, and connections to it."""

    def __init__(self, server, authority=None):
        self.server, self.tls = server, ssl.create_default_context(cafile=authority) if authority else None

    def connect(self):
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", self.server.port, context=self.tls, timeout=60)
        return http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)

    def ask(self, connection, method, path, body=None, **fields):
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in fields.items()})
        reply = connection.getresponse()
        return reply.status, reply.read()

    def json(self, method, path, body=None):
        connection = self.connect()
        status, text = self.ask(connection, method, path, json.dumps(body) if body else None)
        assert status < 300, (path, status, text)
        return json.loads(text)

    def handshake(self):
        """From a connection to one that speaks TLS: nothing where there is none."""
        with socket.create_connection(("127.0.0.1", self.server.port)) as sock:
            begin = time.monotonic()
            if self.tls:
                self.tls.wrap_socket(sock, server_hostname="127.0.0.1").close()
            return time.monotonic() - begin

    def request(self, connection):
        begin = time.monotonic()
        self.ask(connection, "GET", "/health/live")
        return time.monotonic() - begin

    def up(self, connection, handle, number, bytes_of_chunk):
        """A chunk of keys, read as a whole and then refused for its checksum: nothing but the transfer."""
        begin = time.monotonic()
        status, text = self.ask(connection, "PUT", f"/v1/keys/chunks/{number}", bytes_of_chunk, X_Polyveil_Handle=handle,
                                X_Polyveil_Checksum="0" * 64)
        assert status == 400, (status, text)
        return time.monotonic() - begin

    def down(self, connection, file):
        begin = time.monotonic()
        status, text = self.ask(connection, "GET", "/v1/model/client/files/" + file["sha256"])
        assert status == 200 and len(text) == file["bytes"], status
        return time.monotonic() - begin


def measure(peer, rounds):
    model = peer.json("GET", "/v1/model")
    files = peer.json("GET", "/v1/model/client")["files"]
    file = max(files, key=lambda each: each["bytes"])
    keys = peer.json("POST", "/v1/keys", {"key_id": secrets.token_hex(32), "total_bytes": model["key_stream_bytes"],
                                          "request_id": secrets.token_hex(16)})
    chunk = secrets.token_bytes(min(keys["chunk_bytes"], model["key_stream_bytes"]))
    connection = peer.connect()
    times = {"handshake": [peer.handshake() for _ in range(rounds)], "request": [peer.request(connection) for _ in range(rounds)],
             "up": [peer.up(connection, keys["id"], 0, chunk) / len(chunk) for _ in range(rounds)],
             "down": [peer.down(connection, file) / file["bytes"] for _ in range(rounds)]}
    return model, {name: statistics.median(each) for name, each in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("server", "model"):
        parser.add_argument(name)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--parameters", default="decode16")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pair, seen = certificate(folder), {}
        for name, more in (("plain", []), ("TLS", ["--tls-certificate", pair[0], "--tls-key", pair[1]])):
            server = Server(options.server, options.model, folder, "--parameters", options.parameters, *more)
            try:
                model, seen[name] = measure(Peer(server, pair[0] if more else None), options.rounds)
            finally:
                server.end(signal.SIGTERM)
    estimate = model["estimate"]
    added = {name: seen["TLS"][name] - seen["plain"][name] for name in seen["TLS"]}
    up, down, token = estimate["token_bytes_up"], estimate["token_bytes_down"], estimate["seconds_per_token"]
    step = max(0, added["request"]) + max(0, added["up"]) * up + max(0, added["down"]) * down
    units = {"handshake": ("ms", 1e3), "request": ("ms", 1e3), "up": ("ms a megabyte", 1e9), "down": ("ms a megabyte", 1e9)}
    for name, (unit, factor) in units.items():
        print(f"{name:9} plain {seen['plain'][name] * factor:8.3f}, TLS {seen['TLS'][name] * factor:8.3f} {unit}")
    whole = max(0, added["handshake"]) + step
    print(f"a token of {model['name']} with {options.parameters}: {token:.2f} s, {up / 1e6:.2f} MB up, {down / 1e6:.2f} MB "
          f"down; TLS adds {1000 * step:.2f} ms, {1000 * whole:.2f} ms with a handshake of its own: {100 * whole / token:.3f}% of it")
    return 0 if whole < 0.01 * token else 1


sys.exit(main())
