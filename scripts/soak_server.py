#!/usr/bin/env python3
"""A server, a proxy in front of it, and clients that generate text after text, directly and through the proxy: memory
must not grow and nothing may fail. Ten minutes by hand, seconds in the tests.
Usage: soak_server.py POLYVEIL SERVER MODEL [--minutes M] [--warm-up M] [--clients N] [--proxy-clients N] [--tokens N]
       [--parameters SET]"""
import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

from server_process import Server, resident_bytes

GROWTH = 0.05  # of the peak memory of a quarter of the time, against the last quarter
SLACK = 4 << 20  # bytes: allocators round


class Client(threading.Thread):
    """Texts one after the other, each compared with the float64 model's."""

    def __init__(self, ask, expected, stop):
        super().__init__(daemon=True)
        self.ask, self.expected, self.stop = ask, expected, stop
        self.texts, self.errors = 0, []

    def run(self):
        while not self.stop.is_set():
            try:
                text = self.ask()
                if text != self.expected:
                    self.errors.append(f"another text: {text!r}, expected {self.expected!r}")
            except (OSError, RuntimeError, KeyError, ValueError) as error:
                self.errors.append(repr(error))
            self.texts += 1


def direct(command):
    def ask():
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return done.stdout.strip()
    return ask


def through_proxy(port, model, prompt, tokens):
    def ask():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        body = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "echo": True}
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        text = reply.read().decode()
        connection.close()
        if reply.status != 200:
            raise RuntimeError(f"the proxy answers {reply.status}: {text[:200]}")
        return json.loads(text)["choices"][0]["text"].strip()
    return ask


def start_proxy(options, server, folder):
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [options.polyveil, "proxy", "--server", f"http://127.0.0.1:{server.port}", "--cache", folder + "/cache",
         "--insecure-test", "--threads", "1", "--port", "0", "--ready-fd", str(writer), "--max-waiting", "100"],
        pass_fds=[writer], stderr=open(folder + "/proxy.log", "w"))
    os.close(writer)
    with os.fdopen(reader) as ready:
        line = ready.readline()
    if not line:
        sys.exit("FAILED: the proxy does not start: " + open(folder + "/proxy.log").read()[-500:])
    return process, int(line)


def watch(processes, warm_up, seconds):
    """The memory of each process at each quarter second behind the warm-up, as lists."""
    seen = {name: [] for name in processes}
    time.sleep(warm_up)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for name, process in processes.items():
            if process.poll() is not None:
                sys.exit(f"FAILED: {name} ended with status {process.returncode}")
            seen[name].append(resident_bytes(process.pid))
        time.sleep(0.25)
    return seen


def growth(samples):
    """Peaks of the first and of the last quarter, and whether the last one is above what is allowed."""
    quarter = len(samples) // 4
    before, after = max(samples[:quarter]), max(samples[-quarter:])
    return before, after, after > before * (1 + GROWTH) + SLACK


def refused(server):
    """Replies of the server that are no success, by status."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    return sum(float(value) for status, value in re.findall(r'^polyveil_requests_total\{.*code="(\d+)".*\} (\S+)$', text, re.M)
               if int(status) >= 400)


def soak(options, folder):
    text = [options.polyveil, "generate", "--model", options.model, "--prompt", "o", "--tokens", str(options.tokens)]
    plain = subprocess.run([*text, "--plain"], capture_output=True, text=True, check=True).stdout.strip()
    server = Server(options.server, options.model, folder, "--parameters", options.parameters, "--threads", "1",
                    "--max-keys", "64")
    proxy, port = start_proxy(options, server, folder)
    stop = threading.Event()
    command = [*text, "--server", f"http://127.0.0.1:{server.port}", "--insecure-test", "--threads", "1"]
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/v1/models")
        model = json.loads(connection.getresponse().read())["data"][0]["id"]
        clients = [Client(direct(command), plain, stop) for _ in range(options.clients - options.proxy_clients)]
        clients += [Client(through_proxy(port, model, "o", options.tokens), plain, stop) for _ in range(options.proxy_clients)]
        for client in clients:
            client.start()
        memory = watch({"server": server.process, "proxy": proxy}, options.warm_up * 60, options.minutes * 60)
        stop.set()
        for client in clients:
            client.join()
        failures = refused(server)
    finally:
        proxy.send_signal(signal.SIGINT)
        proxy.wait()
        server.end(signal.SIGTERM)
    return clients, memory, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("polyveil", "server", "model"):
        parser.add_argument(name)
    for name, default in (("clients", 8), ("proxy-clients", 2), ("tokens", 7)):
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--warm-up", type=float, default=1)
    parser.add_argument("--parameters", default="test10")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clients, memory, failures = soak(options, folder)
    errors = [error for client in clients for error in client.errors]
    texts, grown = sum(client.texts for client in clients), False
    print(f"{options.clients} clients ({options.proxy_clients} through a proxy) for {options.minutes:g} minutes: "
          f"{texts} texts of {options.tokens} tokens, {len(errors)} errors, {failures:g} refused requests")
    for name, samples in memory.items():
        before, after, more = growth(samples)
        grown |= more
        print(f"{name}: peak memory {before / 1e6:.1f} MB in the first quarter, {after / 1e6:.1f} MB in the last"
              f"{', which is GROWTH' if more else ''}")
    for error in errors[:5]:
        print("error:", error)
    return 1 if errors or grown or failures or texts < options.clients else 0


sys.exit(main())
