"""Text from a model that never sees it."""
from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Iterator

from . import _polyveil


@dataclasses.dataclass
class Token:
    """One token that the server has worked on."""
    position: int  # in the text
    prompt: bool  # no token was picked behind it
    text: str  # characters that the picked token completes
    seconds: float
    server_seconds: float


class Client(_polyveil._Client):
    """A model on a server, and a secret key for it, which never leaves this object. One text at a time."""

    def generate(self, prompt: str, tokens: int = 16, *, public: str = "", temperature: float = 0,
                 top_p: float = 1, top_k: int = 0, repetition_penalty: float = 1, seed: int = 0,
                 stops: list[str] | None = None, fixed_length: bool = False) -> Iterator[Token]:
        """Tokens as they come, those of the prompt first. `public` goes to the server in the clear.

        An iterator that is left early ends the text on the server.
        """
        events: queue.SimpleQueue = queue.SimpleQueue()
        left = threading.Event()

        def heard(*fields) -> bool:
            events.put(Token(*fields))
            return not left.is_set()

        def run() -> None:
            try:
                self._generate(prompt, public, tokens, temperature, top_p, top_k, repetition_penalty, seed,
                               stops or [], fixed_length, heard)
                events.put(None)
            except Exception as error:  # handed on below
                events.put(error)

        worker = threading.Thread(target=run, daemon=True)
        worker.start()
        try:
            while (event := events.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            left.set()
            worker.join()


def from_pretrained(path: str, context: int = 0) -> _polyveil.Model:
    """The model of a local folder or file, as Model.load."""
    return _polyveil.Model.load(path, context)
