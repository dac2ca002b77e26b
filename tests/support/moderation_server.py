"""A moderation endpoint with scripted verdicts, since there is none to be had without an account."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class StubModeration:
    """An endpoint of OpenAI's form. A text that holds a word of ``words`` is flagged under the word's category.

    ``reply`` is a status and a body that take the place of the verdict. ``requests`` holds the requests, with the
    Authorization header.
    """

    def __init__(self) -> None:
        self.words: dict[str, str] = {}
        self.reply: tuple[int, Any] | None = None
        self.requests: list[dict[str, Any]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.requests.append({**body, "path": self.path, "authorization": self.headers.get("Authorization")})
                status, told = stub.reply or (200, stub.verdict(body["input"]))
                data = told if isinstance(told, bytes) else json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def texts(self) -> list[str]:
        """The texts that were to be judged."""
        return [request["input"] for request in self.requests]

    def verdict(self, text: str) -> dict[str, Any]:
        flagged = {category: word in text for word, category in self.words.items()}
        result = {"flagged": any(flagged.values()), "categories": {"harassment": False, **flagged}}
        return {"id": "modr-1", "model": "stub", "results": [{**result, "category_scores": {}}]}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
