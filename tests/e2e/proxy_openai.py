#!/usr/bin/env python3
"""The official `openai` package against `polyveil proxy`. Usage: proxy_openai.py http://127.0.0.1:PORT/v1"""
import asyncio
import sys
import time

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=120)
model = client.models.list().data[0].id
assert client.models.retrieve(model).id == model
hello = [{"role": "user", "content": "once"}]


def refused(kind, call, **expected):
    try:
        call()
    except kind as error:
        for name, value in expected.items():
            assert getattr(error, name) == value, (name, getattr(error, name), error)
        return
    raise AssertionError(f"no {kind.__name__}")


whole = client.chat.completions.create(model=model, messages=hello, max_tokens=4, temperature=0)
text = whole.choices[0].message.content
assert whole.usage.completion_tokens <= 4 and whole.choices[0].finish_reason in ("length", "stop")

pieces, usage, reason = "", None, None
for chunk in client.chat.completions.create(model=model, messages=hello, max_completion_tokens=4, temperature=0,
                                            stream=True, stream_options={"include_usage": True}):
    usage = chunk.usage or usage
    for choice in chunk.choices:
        pieces += choice.delta.content or ""
        reason = choice.finish_reason or reason
assert pieces == text and usage.completion_tokens == whole.usage.completion_tokens and reason, (pieces, text)

turns = [*hello, {"role": "assistant", "content": text}, {"role": "user", "content": "a"}]
second = client.chat.completions.create(model=model, messages=turns, max_tokens=2, temperature=0)
assert second.usage.prompt_tokens_details.cached_tokens > 0, second.usage

done = client.completions.create(model=model, prompt="o", max_tokens=3, seed=5, temperature=1.5)
again = client.completions.create(model=model, prompt="o", max_tokens=3, seed=5, temperature=1.5)
assert done.choices[0].text == again.choices[0].text and done.system_fingerprint == again.system_fingerprint

refused(openai.BadRequestError, lambda: client.chat.completions.create(model=model, messages=hello, n=2), param="n")
refused(openai.BadRequestError, lambda: client.completions.create(model=model, prompt="o " * 500),
        code="context_length_exceeded")
refused(openai.NotFoundError, lambda: client.completions.create(model="other", prompt="o"), code="model_not_found")
refused(openai.BadRequestError, lambda: client.embeddings.create(model=model, input="o"), code="no_encoder")

refused(openai.BadRequestError, lambda: client.embeddings.create(model=model, input=["o", "a"], dimensions=8), code="no_encoder",
        type="invalid_request_error")
for field, value in (("temperature", 9), ("logprobs", True), ("response_format", {"type": "json_object"}), ("top_p", -1)):
    refused(openai.BadRequestError, lambda: client.chat.completions.create(model=model, messages=hello, **{field: value}),
            param=field, status_code=400)
refused(openai.BadRequestError, lambda: client.chat.completions.create(model=model, messages=[]), param="messages")
# Who waits no longer takes nothing from the next one.
refused(openai.APITimeoutError, lambda: client.completions.create(model=model, prompt="o", max_tokens=40, timeout=0.05))


async def cancelled():
    """A text of the asynchronous client's, cancelled in the middle."""
    async with openai.AsyncOpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=120) as other:
        task = asyncio.create_task(other.completions.create(model=model, prompt="o", max_tokens=40))
        await asyncio.sleep(0.1)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return await other.completions.create(model=model, prompt="o", max_tokens=1, temperature=0)
    raise AssertionError("not cancelled")


begin = time.monotonic()
asyncio.run(cancelled())
assert time.monotonic() - begin < 10, "a cancelled text runs on"

# A stream that its reader leaves ends the text: the next one does not wait for forty tokens.
stream = client.completions.create(model=model, prompt="o", max_tokens=40, stream=True)
next(iter(stream))
stream.close()
begin = time.monotonic()
client.completions.create(model=model, prompt="o", max_tokens=1, temperature=0)
print(f"ok: the openai package {openai.__version__} (a token behind a cancelled text: {time.monotonic() - begin:.2f} s)")
