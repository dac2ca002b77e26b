"""Load for a service of yours, by Locust (extra `bench`):

    pip install "lockstep[bench]"
    locust -f benchmarks/locustfile.py --host http://127.0.0.1:PORT --users 50 --spawn-rate 5

LOCKSTEP_KEY is sent as the key. LOCKSTEP_QUESTIONS names a file with a question a line, or golden questions (JSON
lines). Of ten tasks eight search and two ask. Locust counts what is no 200, and shows percentiles by route.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

from locust import HttpUser, between, task

DEFAULT = ("What happens to a file that cannot be parsed?", "How does a rename avoid embedding again?")


def questions() -> list[str]:
    """Return the questions of the file that LOCKSTEP_QUESTIONS names, or two of our own."""
    name = os.environ.get("LOCKSTEP_QUESTIONS")
    if not name:
        return list(DEFAULT)
    lines = [line.strip() for line in Path(name).read_text("utf-8").splitlines() if line.strip()]
    return [json.loads(line)["question"] if line.startswith("{") else line for line in lines]


QUESTIONS = questions()


class Reader(HttpUser):
    """Somebody who searches, and asks now and then."""

    wait_time = between(0.5, 2.0)

    def on_start(self) -> None:
        """Send the key with each request."""
        if key := os.environ.get("LOCKSTEP_KEY"):
            self.client.headers["authorization"] = f"Bearer {key}"

    @task(8)
    def search(self) -> None:
        self.client.post("/search", json={"question": random.choice(QUESTIONS)})

    @task(2)
    def ask(self) -> None:
        self.client.post("/ask", json={"question": random.choice(QUESTIONS)})
