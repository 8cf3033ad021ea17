#!/usr/bin/env python3
"""Kills a server at random moments (of uploads, steps and shutdowns, which it counts) while clients generate texts, starts it
again on the same folder, and compares every text with the float64 model's: no session may be lost, no token wrong.
Usage: kill_server.py POLYVEIL SERVER MODEL [--kills N] [--tokens N] [--clients N] [--seconds-between S] [--seed N]
       [--parameters SET]"""
import argparse
import collections
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from server_process import Server


class Client(threading.Thread):
    """Texts one after the other, until it is told to stop."""

    def __init__(self, options, port, prompt, stop):
        super().__init__(daemon=True)
        self.command = [options.polyveil, "generate", "--model", options.model, "--prompt", prompt, "--tokens",
                        str(options.tokens)]
        plain = subprocess.run([*self.command, "--plain"], capture_output=True, check=True)
        self.expected = plain.stdout
        self.command += ["--server", f"http://127.0.0.1:{port}", "--insecure-test", "--threads", "1", "--retry-seconds", "120"]
        self.stop, self.texts, self.lost, self.wrong = stop, 0, [], 0

    def run(self):
        while not self.stop.is_set():
            done = subprocess.run(self.command, capture_output=True)
            self.texts += 1
            if done.returncode != 0:
                self.lost.append(done.stderr.decode().strip().splitlines()[-1])
            elif done.stdout != self.expected:
                self.wrong += 1


def phase(server):
    """What the server is doing, as far as it says so in time."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/v1/status", timeout=2) as reply:
            status = json.load(reply)
    except OSError:
        return "other"
    if status["running_steps"] + status["waiting_steps"]:
        return "step"
    return "upload" if status["key_sets"] > status["sessions"] else "other"


def end(options, server, draw):
    """By kill -9; one time in four in the middle of an orderly end, one time in eight by that alone."""
    kind = draw.randrange(8)
    if kind > 2:
        seen = phase(server)
        server.end(signal.SIGKILL)
        return seen
    server.process.send_signal(signal.SIGTERM)
    if kind == 2:
        server.process.wait()
        return "orderly"
    time.sleep(draw.uniform(0, options.shutdown_seconds))
    alive = server.process.poll() is None
    server.end(signal.SIGKILL)
    return "shutdown" if alive else "orderly"


def torment(options, server, draw):
    stop = threading.Event()
    clients = [Client(options, server.port, prompt, stop) for prompt in "ouatw"[:options.clients]]
    for client in clients:
        client.start()
    begin, ends = time.monotonic(), collections.Counter()
    while ends.total() - ends["orderly"] < options.kills:
        time.sleep(draw.uniform(0, 2 * options.seconds_between))
        ends[end(options, server, draw)] += 1
        server.start()
    stop.set()
    for client in clients:
        client.join()
    texts, lost, wrong = (sum(client.texts for client in clients), sum(len(client.lost) for client in clients),
                          sum(client.wrong for client in clients))
    print(f"{options.kills} kills in {time.monotonic() - begin:.0f} s, {texts} texts of {options.tokens} tokens: "
          f"{lost} sessions lost, {wrong} texts wrong")
    print(f"killed in a step {ends['step']}, while keys came {ends['upload']}, while it ended {ends['shutdown']}, otherwise "
          f"{ends['other']}; ended in order besides: {ends['orderly']}")
    for client in clients:
        for message in client.lost[:3]:
            print("lost:", message)
    return 1 if lost or wrong or texts == 0 else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("polyveil", "server", "model"):
        parser.add_argument(name)
    for name, default in (("kills", 100), ("tokens", 7), ("clients", 2), ("seed", 1)):
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--seconds-between", type=float, default=1.0)
    parser.add_argument("--parameters", default="test10")
    options = parser.parse_args()
    small = options.parameters.startswith("test")
    options.more = ["--threads", "1"] if small else []
    options.shutdown_seconds = 0.1 if small else 2
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(options.server, options.model, folder, "--parameters", options.parameters, "--state",
                        folder + "/state", "--drain-seconds", "1", *options.more)
        try:
            return torment(options, server, draw)
        finally:
            server.end(signal.SIGKILL)


sys.exit(main())
