#!/usr/bin/env python3
"""One streamed chat through `polyveil proxy` in front of a server of its own, with what it took: seconds by token, bytes, peak
memory of both programs. --as-text is the same dialogue in the model's template, without the token that stands before every
text: the float64 model must answer it alike.
Usage: proxy_chat.py POLYVEIL SERVER MODEL [--words TEXT] [--tokens N] [--as-text TEXT] [--parameters SET] [--proxy OPTION]..."""
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

from server_process import Server


def peak_gigabytes(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024 / 1e9


def start_proxy(options, server):
    reader, writer = os.pipe()
    proxy = subprocess.Popen([options.polyveil, "proxy", "--server", f"http://127.0.0.1:{server.port}", "--port", "0", "--insecure-test",
                              "--retry-seconds", "120", "--ready-fd", str(writer), *options.proxy], pass_fds=[writer])
    os.close(writer)
    with os.fdopen(reader) as ready:
        port = ready.readline().strip()
    return proxy, f"http://127.0.0.1:{port}"


def get(url):
    with urllib.request.urlopen(url) as reply:
        return json.load(reply)


def stream(url, body):
    """The events of a chat as they come."""
    request = urllib.request.Request(url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as reply:
        for line in reply:
            line = line.decode().strip()
            if line.startswith("data: ") and line != "data: [DONE]":
                yield json.loads(line[6:])


def chat(options, url):
    body = {"model": get(url + "/v1/models")["data"][0]["id"], "messages": [{"role": "user", "content": options.words}], "stream": True,
            "stream_options": {"include_usage": True}, "max_tokens": options.tokens, "temperature": 0}
    begin, answer = time.monotonic(), ""
    for event in stream(url, body):
        if "error" in event:
            sys.exit(f"FAILED: {event['error']['message']}")
        piece = "".join(choice["delta"].get("content", "") for choice in event["choices"])
        answer += piece
        if piece:
            print(f"{time.monotonic() - begin:8.1f} s {piece!r}", flush=True)
    usage = event["usage"]
    tokens = [token["seconds"] for token in get(url + "/status")["tokens"]]
    print(f"{usage['prompt_tokens']} tokens of the prompt, {usage['prompt_tokens_details']['cached_tokens']} of them in the clear; "
          f"{usage['completion_tokens']} of the answer: {answer!r}")
    print(f"{len(tokens)} encrypted tokens of {min(tokens):.1f} to {max(tokens):.1f} s, {time.monotonic() - begin:.0f} s in all")
    return answer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("polyveil", "server", "model"):
        parser.add_argument(name)
    parser.add_argument("--words", default="Hi")
    parser.add_argument("--tokens", type=int, default=3)
    parser.add_argument("--as-text")
    parser.add_argument("--parameters", default="decode16")
    parser.add_argument("--proxy", action="append", default=[], help="an option of the proxy")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(options.server, options.model, folder, "--parameters", options.parameters)
        proxy, url = start_proxy(options, server)
        try:
            answer = chat(options, url)
            print(f"peak memory: proxy {peak_gigabytes(proxy.pid):.2f} GB, server {peak_gigabytes(server.process.pid):.2f} GB")
        finally:
            proxy.send_signal(signal.SIGINT)
            proxy.wait()
            server.end(signal.SIGTERM)
    if options.as_text is None:
        return 0
    plain = subprocess.run([options.polyveil, "generate", "--model", options.model, "--plain", "--prompt", options.as_text, "--tokens",
                            str(options.tokens)], capture_output=True, check=True, text=True).stdout
    equal = plain.removeprefix(options.as_text).removesuffix("\n") == answer
    print(f"the float64 model's answer is {'the same' if equal else 'another: ' + repr(plain)}")
    return 0 if equal else 1


sys.exit(main())
