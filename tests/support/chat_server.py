"""A chat server with scripted answers, since a real model does not misbehave on demand."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Say:
    """An answer: ``text``, its finish reason (None: killed in the middle), and the seconds ``after`` which it begins.

    ``between`` is the pause between streamed pieces, in seconds.
    """

    text: str
    finish: str | None = "stop"
    after: float = 0.0
    between: float = 0.0
    pings: int = 0
    """Number of comments before the answer, a tenth of a second apart, as proxies send them to keep a stream open."""
    hollow: int = 0
    """Number of events without text before the answer."""


def claims(*made: tuple[str, list[tuple[int, str]]], answerable: bool = True) -> str:
    """Return an answer in JSON: statements, each with passage numbers and quotes."""
    listed = [
        {"text": text, "citations": [{"passage": n, "quote": quote} for n, quote in cited]} for text, cited in made
    ]
    return json.dumps({"answerable": answerable, "claims": listed})


class Crowded(ThreadingHTTPServer):
    """A server to which many connect at once."""

    request_queue_size = 128


class StubChat:
    """A chat server. ``replies`` holds the status and answer of each request in turn; the last one repeats.

    A str is an answer, a dict JSON, bytes HTML. ``requests`` holds the requests, with the Authorization header, and
    ``headers`` all of their headers. With ``tokenizes`` the server counts words as tokens, like vLLM's /tokenize, and
    reports its ``window``. ``counted`` holds the counted texts.
    """

    def __init__(self) -> None:
        self.replies: list[tuple[int, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.tokenizes: Any = False
        self.window = 100_000
        self.counted: list[str] = []
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(200, {"object": "list", "data": [{"id": "served-model", "object": "model"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/tokenize":
                    self.tokenize(body["prompt"])
                    return
                chat.headers.append({name.lower(): value for name, value in self.headers.items()})
                chat.requests.append({**body, "authorization": self.headers.get("Authorization")})
                status, reply = chat.replies.pop(0) if len(chat.replies) > 1 else chat.replies[0]
                reply = Say(reply) if isinstance(reply, str) else reply
                if not isinstance(reply, Say):
                    self.answer(status, reply)
                    return
                time.sleep(reply.after)
                if body.get("stream"):
                    self.stream(reply)
                else:
                    self.answer(status, whole(reply, body["model"]))

            def tokenize(self, text: str) -> None:
                chat.counted.append(text)
                count = {"count": len(text.split()), "max_model_len": chat.window}
                if chat.tokenizes in (True, False):
                    self.answer(*((200, count) if chat.tokenizes else (404, {"detail": "Not Found"})))
                else:  # the answer of another kind of server
                    said = chat.tokenizes
                    self.answer(*(said if isinstance(said, tuple) else (200, said)))

            def stream(self, reply: Say) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for _ in range(reply.pings):
                    self.wfile.write(b": ping\n\n")
                    time.sleep(0.1)
                for _ in range(reply.hollow):
                    self.event({"delta": {"content": ""}, "finish_reason": None})
                for start in range(0, len(reply.text), 7):
                    self.event({"delta": {"content": reply.text[start : start + 7]}, "finish_reason": None})
                    time.sleep(reply.between)
                if reply.finish:
                    self.event({"delta": {}, "finish_reason": reply.finish})
                    self.event(None)
                    self.wfile.write(b"data: [DONE]\n\n")

            def event(self, choice: dict[str, Any] | None) -> None:
                head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "served-model"}
                choices = [{"index": 0, **choice}] if choice else []
                usage = {} if choice else {"usage": USAGE}
                self.wfile.write(b"data: " + json.dumps({**head, "choices": choices, **usage}).encode() + b"\n\n")
                self.wfile.flush()

            def answer(self, status: int, reply: Any) -> None:
                data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/html" if isinstance(reply, bytes) else "application/json")
                self.send_header("Content-Length", str(len(data)))
                if status == 429:
                    self.send_header("Retry-After", "0")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = Crowded(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def whole(reply: Say, model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": reply.text}
    choice = {"index": 0, "message": message, "finish_reason": reply.finish or "stop"}
    return {
        "id": "1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": USAGE,
    }  # fmt: skip
