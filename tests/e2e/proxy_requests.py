#!/usr/bin/env python3
"""Requests to `polyveil proxy` as clients of the OpenAI API send them: shapes recorded from curl's examples, Open
WebUI 0.6 and editors, hostile ones beside them.
Usage: proxy_requests.py PROXY SERVER, or PROXY --text PROMPT to print six tokens of greedy text."""
import http.client
import json
import socket
import sys
import threading
import time
import urllib.parse

PROXY = urllib.parse.urlsplit(sys.argv[1])
FAILURES = []


def expect(right, what, seen=""):
    print("ok:" if right else "FAILED:", what, "" if right else seen)
    if not right:
        FAILURES.append(what)


def ask(method, path, body=None, where=PROXY, **fields):
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=120)
    text = body if isinstance(body, (str, bytes)) or body is None else json.dumps(body)
    connection.request(method, path, text, {"Content-Type": "application/json", **fields})
    reply = connection.getresponse()
    data = reply.read()
    connection.close()
    return reply, data.decode()


def model():
    return json.loads(ask("GET", "/v1/models")[1])["data"][0]["id"]


def events(text):
    blocks = [block for block in text.split("\n\n") if block.startswith("data: ")]
    return [json.loads(block[6:]) for block in blocks if block != "data: [DONE]"]


def status():
    return json.loads(ask("GET", "/v1/status", where=SERVER)[1])


def complete(**fields):
    reply, text = ask("POST", "/v1/completions", {"model": MODEL, "temperature": 0, **fields})
    return reply.status, json.loads(text)


def chat(messages, **fields):
    reply, text = ask("POST", "/v1/chat/completions", {"model": MODEL, "temperature": 0, "messages": messages, **fields})
    return reply.status, json.loads(text)


def user(text):
    return {"role": "user", "content": text}


def check_turns():
    first = [user("once")]
    code, answer = chat(first, max_tokens=3)
    expect(code == 200 and answer["usage"]["completion_tokens"] <= 3, "a chat", answer)
    said = answer["choices"][0]["message"]
    turns = [*first, {"role": "assistant", "content": said["content"]}, user("a time")]
    code, second = chat(turns, max_tokens=3)
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    expect(code == 200 and cached > 0, "the next turn goes on with the session", second)
    sessions = status()["sessions"]
    # A title that a chat program asks for in between takes a session of its own.
    chat([user("name this dialogue")], max_tokens=2)
    third = [*turns, {"role": "assistant", "content": second["choices"][0]["message"]["content"]}, user("upon")]
    code, answer = chat(third, max_tokens=2)
    expect(code == 200 and answer["usage"]["prompt_tokens_details"]["cached_tokens"] > cached,
           "another dialogue in between does not end the first", answer)
    expect(status()["sessions"] == sessions + 1, "sessions", status())


def check_open_webui():
    body = {"stream": True, "model": MODEL, "messages": [user("once")], "max_tokens": 3, "temperature": 0,
            "stream_options": {"include_usage": True}}
    reply, text = ask("POST", "/v1/chat/completions", body, Authorization="Bearer sk-none", Accept="*/*")
    seen = events(text)
    expect(reply.getheader("Content-Type") == "text/event-stream" and text.endswith("data: [DONE]\n\n"), "a stream", text)
    expect(seen[0]["choices"][0]["delta"]["role"] == "assistant" and seen[-1]["usage"]["completion_tokens"] > 0,
           "a stream's events", text)
    whole = chat([user("once")], max_tokens=3)[1]["choices"][0]["message"]["content"]
    streamed = "".join(e["choices"][0]["delta"].get("content", "") for e in seen if e["choices"])
    expect(streamed == whole, "a stream adds up to the text", (streamed, whole))


# What clients of the API send, by their sources of 2025: path, headers, body. MODEL and a turn of the user's are added.
SHAPES = {
    "Open WebUI, a chat with a user's settings": (
        "chat/completions", {"X-OpenWebUI-User-Name": "Ann", "X-OpenWebUI-User-Role": "user", "X-OpenWebUI-Chat-Id": "1"},
        {"stream": True, "temperature": 0.8, "top_p": 0.9, "max_tokens": 2, "seed": 3, "stop": ["###"],
         "stream_options": {"include_usage": True}}),
    "Open WebUI, a chat's title": ("chat/completions", {}, {"stream": False, "max_completion_tokens": 2}),
    "Open WebUI, a title as long as it likes": ("chat/completions", {}, {"stream": False, "max_completion_tokens": 1000}),
    "Open WebUI, tags and follow-ups": ("chat/completions", {}, {"stream": False, "stop": "a"}),
    "Open WebUI, text in parts": (
        "chat/completions", {}, {"stream": True, "max_tokens": 2,
                                 "messages": [{"role": "user", "content": [{"type": "text", "text": "on"}]}]}),
    "LangChain": ("chat/completions", {"X-Stainless-Lang": "python", "X-Stainless-Retry-Count": "0"},
                  {"n": 1, "stream": False, "temperature": 0.7, "max_completion_tokens": 2, "logprobs": False}),
    "LibreChat": ("chat/completions", {}, {"stream": True, "user": "66", "temperature": 1, "top_p": 1, "presence_penalty": 0,
                                           "frequency_penalty": 0, "max_tokens": 2}),
    "an agent's framework without tools": (
        "chat/completions", {}, {"stream": False, "tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "store": False,
                                 "response_format": {"type": "text"}, "metadata": {}, "max_tokens": 2}),
    "an editor's continuation": ("completions", {}, {"prompt": "o", "stream": True, "max_tokens": 3, "temperature": 0.01,
                                                     "stop": ["\n\n", "</code>"], "suffix": ""}),
    "lm-eval": ("completions", {}, {"prompt": ["o"], "max_tokens": 2, "temperature": 0, "seed": 1234, "stop": ["\n"]}),
    "curl's example": ("completions", {"Content-Type": "application/json", "Authorization": "Bearer $OPENAI_API_KEY"},
                       {"prompt": "o", "max_tokens": 2, "temperature": 0}),
}


def check_shapes():
    for name, (path, headers, body) in SHAPES.items():
        body = {"model": MODEL, **body}
        if path == "chat/completions":
            body["messages"] = [user("on") if turn == "user" else turn for turn in body.get("messages", ["user"])]
        reply, text = ask("POST", "/v1/" + path, body, **headers)
        if body.get("stream"):
            right = text.endswith("data: [DONE]\n\n") and events(text)[0]["model"] == MODEL
        else:
            right = reply.status == 200 and json.loads(text)["choices"][0]["finish_reason"] in ("stop", "length")
        expect(reply.status == 200 and right, name, text)
    # How it tries a connection before it saves it, and what it asks for at every start.
    for path in ("/v1/models", "/v1/models/"):
        reply, text = ask("GET", path, None, Authorization="Bearer sk-none", Accept="application/json")
        if path.endswith("models"):
            listed = json.loads(text)
            expect(listed["object"] == "list" and listed["data"][0]["object"] == "model" and listed["data"][0]["owned_by"],
                   "the list of models", text)
        else:
            expect(reply.status in (200, 404) and text.startswith("{"), "a path with a slash behind it", text)
    # A model whose template has no place for it says so.
    code, body = chat([{"role": "system", "content": "on"}, user("on")])
    expect(code == 400 and body["error"]["param"] == "messages[0].role", "a system text is refused by name", body)
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    pictures = [{"role": "user", "content": [{"type": "text", "text": "on"}, picture]}]
    code, body = chat(pictures)
    expect(code == 400 and body["error"]["param"] == "messages[0].content[1].type", "a picture is refused by name", body)


def check_seeds():
    hot = {"prompt": "o", "max_tokens": 4, "temperature": 2}
    texts = [complete(**hot, seed=seed)[1]["choices"][0]["text"] for seed in (1, 1, 2, 3, 4)]
    expect(texts[0] == texts[1] and len(set(texts)) > 1, "seeds", texts)
    code, whole = complete(prompt="o", max_tokens=4)
    text = whole["choices"][0]["text"]
    stopped = complete(prompt="o", max_tokens=4, stop=text[1:2])[1]["choices"][0]
    expect(stopped["text"] == text[:text.index(text[1:2])] and stopped["finish_reason"] == "stop", "a stop text", stopped)
    expect(complete(prompt="o", max_tokens=2, echo=True)[1]["choices"][0]["text"].startswith("o"), "echo")


def check_refusals():
    for field, value in (("n", 2), ("logprobs", 3), ("best_of", 4), ("tools", [1]), ("nonsense", 1), ("temperature", 9)):
        code, body = complete(prompt="o", **{**{"temperature": 0}, field: value})
        expect(code == 400 and body["error"]["param"] == field, f"{field} is refused by name", body)
    code, body = complete(prompt="once upon a time " * 100)
    expect(code == 400 and body["error"]["code"] == "context_length_exceeded", "a long prompt", body)
    expect(complete(prompt="o", model="gpt-4")[0] == 404, "another model")
    reply, text = ask("POST", "/v1/embeddings", {"model": MODEL, "input": "o"})
    expect(reply.status == 400 and json.loads(text)["error"]["code"] == "no_encoder", "embeddings", text)
    expect(ask("GET", "/v1/models", Origin="http://evil.example")[0].status == 403, "a foreign page")
    expect(ask("POST", "/v1/completions", b"\xff{")[0].status == 400, "no JSON")
    expect(ask("POST", "/v1/completions", "[" * 100000)[0].status == 400, "deep JSON")
    expect(ask("POST", "/v1/completions", " " * (1 << 20 | 1))[0].status == 413, "a large body")


def check_cancellation():
    sock = socket.create_connection((PROXY.hostname, PROXY.port))
    body = json.dumps({"model": MODEL, "prompt": "o", "max_tokens": 40, "stream": True}).encode()
    sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    sock.recv(100)
    sock.close()
    since = time.monotonic()
    while status()["running_steps"] + status()["waiting_steps"] and time.monotonic() - since < 10:
        time.sleep(0.05)
    answer = complete(prompt="o", max_tokens=1)
    expect(answer[0] == 200 and time.monotonic() - since < 5, "a peer that goes away ends its text", answer)


def check_many():
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(complete(prompt="on", max_tokens=2))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = {body["choices"][0]["text"] for code, body in answers if code == 200}
    expect(len(answers) == 8 and len(texts) == 1, "eight at once take turns", answers)


def main():
    for check in (check_turns, check_open_webui, check_shapes, check_seeds, check_refusals, check_cancellation, check_many):
        check()
    text = ask("GET", "/metrics")[1]
    expect('polyveil_proxy_tokens_total{kind="answer"}' in text and 'code="400"' in text, "metrics", text)
    expect(json.loads(ask("GET", "/health")[1])["status"] == "ok", "health")
    return 1 if FAILURES else 0


MODEL = model()
if sys.argv[2] == "--text":
    print(complete(prompt=sys.argv[3], max_tokens=6)[1]["choices"][0]["text"])
else:
    SERVER = urllib.parse.urlsplit(sys.argv[2])
    sys.exit(main())
