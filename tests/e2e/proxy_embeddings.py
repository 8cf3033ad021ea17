#!/usr/bin/env python3
"""/v1/embeddings of `polyveil proxy` before an encoder: what clients send, hostile requests beside it, results against a
report of `polyveil embed`. With the official `openai` package where this Python has it.
Usage: proxy_embeddings.py PROXY SERVER EMBED.json"""
import asyncio
import base64
import http.client
import json
import socket
import struct
import sys
import time
import urllib.parse

PROXY, SERVER = (urllib.parse.urlsplit(url) for url in sys.argv[1:3])
with open(sys.argv[3]) as report:
    TEXTS = json.load(report)["texts"]
LONG = "x" * 60


def ask(method, path, body=None, where=PROXY):
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=120)
    connection.request(method, path, json.dumps(body) if isinstance(body, dict) else body)
    reply = connection.getresponse()
    data = json.loads(reply.read())
    connection.close()
    return reply.status, data


MODEL = ask("GET", "/v1/models")[1]["data"][0]["id"]


def embed(texts, **fields):
    return ask("POST", "/v1/embeddings", {"model": MODEL, "input": texts, **fields})


def close(one, other):
    """Two encrypted runs of the same text."""
    assert len(one) == len(other) == 24, (one, other)
    assert abs(sum(x * x for x in one) - 1) < 1e-4 and max(abs(x - y) for x, y in zip(one, other)) < 2e-3, (one, other)


def check_results():
    words = [text["text"] for text in TEXTS]
    before = len(ask("GET", "/status")[1]["tokens"])
    code, reply = embed(words)
    assert code == 200 and reply["object"] == "list" and reply["model"] == MODEL, reply
    assert len(ask("GET", "/status")[1]["tokens"]) == before + 1, "several texts take more than one ciphertext"
    for i, (text, data) in enumerate(zip(TEXTS, reply["data"], strict=True)):
        assert data["index"] == i and data["object"] == "embedding"
        close(data["embedding"], text["embedding"])
    tokens = sum(text["tokens"] for text in TEXTS)
    assert reply["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}, reply["usage"]
    code, reply = embed(words[1], encoding_format="base64", user="ann")
    values = struct.unpack("<24f", base64.b64decode(reply["data"][0]["embedding"], validate=True))
    close(values, TEXTS[1]["embedding"])
    code, reply = embed(words[:1] * 40)
    assert code == 200 and len(reply["data"]) == 40, reply
    print("ok: embeddings as polyveil embed gives them, several texts in one ciphertext, base64, usage")


def check_refusals():
    for field, body in (("dimensions", {"input": "a", "dimensions": 8}), ("encoding_format", {"input": "a", "encoding_format": "int8"}),
                        ("input", {"input": [1, 2]}), ("input[0]", {"input": [[1, 2]]}), ("input", {"input": ""}), ("input", {}),
                        ("input[1]", {"input": ["a", 5]}), ("nonsense", {"input": "a", "nonsense": 1})):
        code, reply = ask("POST", "/v1/embeddings", {"model": MODEL, **body})
        assert code == 400 and reply["error"]["param"] == field, (field, code, reply)
    code, reply = embed(["a", LONG])
    error = reply["error"]
    assert code == 400 and error["code"] == "context_length_exceeded" and error["param"] == "input[1]", reply
    assert "62 tokens" in error["message"] and any(word.isdigit() and word != "62" for word in error["message"].split()), error
    assert embed("a", model="gpt-4")[0] == 404
    for path, body in (("chat/completions", {"messages": [{"role": "user", "content": "a"}]}), ("completions", {"prompt": "a"})):
        code, reply = ask("POST", "/v1/" + path, {"model": MODEL, **body})
        assert code == 400 and reply["error"]["code"] == "no_decoder" and reply["error"]["param"] == "model", reply
    for body in (b"\xff{", b"[" * 100000, b"5"):
        assert ask("POST", "/v1/embeddings", body)[0] == 400
    print("ok: refused by name: dimensions, tokens, a text of 62 tokens, chats and what is no request")


def running():
    status = ask("GET", "/v1/status", where=SERVER)[1]
    return status["running_steps"] + status["waiting_steps"]


def check_cancellation():
    body = json.dumps({"model": MODEL, "input": [TEXTS[0]["text"]] * 2048}).encode()
    sock = socket.create_connection((PROXY.hostname, PROXY.port))
    sock.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    until = time.monotonic() + 30
    while not running():
        assert time.monotonic() < until, "nothing runs"
        time.sleep(0.02)
    sock.close()
    begin = time.monotonic()
    assert embed("a")[0] == 200
    print(f"ok: a peer that goes away ends its texts (one behind them: {time.monotonic() - begin:.2f} s)")
    assert time.monotonic() - begin < 15


def check_package():
    try:
        import openai
    except ImportError:
        print("skipped: the openai package (not installed)")
        return
    client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0, timeout=120)

    def refused(kind, call, **expected):
        try:
            call()
        except kind as error:
            assert all(getattr(error, name) == value for name, value in expected.items()), error
            return
        raise AssertionError(f"no {kind.__name__}")

    words = [text["text"] for text in TEXTS]
    for fields in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        reply = client.embeddings.create(model=MODEL, input=words, **fields)
        for text, data in zip(TEXTS, reply.data, strict=True):
            vector = data.embedding
            if isinstance(vector, str):
                vector = struct.unpack("<24f", base64.b64decode(vector))
            close(vector, text["embedding"])
        assert reply.usage.prompt_tokens == sum(text["tokens"] for text in TEXTS)
    close(client.embeddings.create(model=MODEL, input=words[0]).data[0].embedding, TEXTS[0]["embedding"])
    refused(openai.BadRequestError, lambda: client.embeddings.create(model=MODEL, input="a", dimensions=8), param="dimensions")
    refused(openai.BadRequestError, lambda: client.embeddings.create(model=MODEL, input=[[1, 2]]), param="input[0]")
    refused(openai.BadRequestError, lambda: client.embeddings.create(model=MODEL, input=LONG), code="context_length_exceeded")
    refused(openai.NotFoundError, lambda: client.embeddings.create(model="other", input="a"), code="model_not_found")
    refused(openai.BadRequestError, lambda: client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "a"}]),
            code="no_decoder")
    refused(openai.APITimeoutError, lambda: client.embeddings.create(model=MODEL, input=words * 600, timeout=0.2))

    async def cancelled():
        async with openai.AsyncOpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0, timeout=120) as other:
            task = asyncio.create_task(other.embeddings.create(model=MODEL, input=words * 600))
            await asyncio.sleep(0.2)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return await other.embeddings.create(model=MODEL, input="a")
        raise AssertionError("not cancelled")

    begin = time.monotonic()
    asyncio.run(cancelled())
    print(f"ok: the openai package {openai.__version__}: embeddings (one behind cancelled ones: {time.monotonic() - begin:.2f} s)")


for check in (check_results, check_refusals, check_cancellation, check_package):
    check()
text_of_metrics = http.client.HTTPConnection(PROXY.hostname, PROXY.port, timeout=20)
text_of_metrics.request("GET", "/metrics")
METRICS = text_of_metrics.getresponse().read().decode()
assert 'polyveil_proxy_tokens_total{kind="prompt"}' in METRICS and 'direction="up"' in METRICS, METRICS
