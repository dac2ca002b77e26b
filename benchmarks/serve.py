"""Measure the service's searches against a bare script over the same model and the same Milvus, in one run.

    python -m benchmarks.serve [FOLDER] [--seconds 10] [--clients 1,8,32,128] [--mode dense]

Starts a stack of its own in a temporary home and indexes FOLDER (default: the project's own docs). The bare script
loads the model, opens a client and does what a question needs: embed it, search. It does so in threads, alone (each
embeds for itself) and together (one forward pass for all that wait). The service is asked over HTTP by a process of its
own, which takes its share of the cores; so is the bare script behind HTTP (`benchmarks.bare_server`): what any service
has to pay. Each is measured in turn, twice, and the better turn counts. The table has requests a second, p50 and p99,
and the ratios to the better bare script, and to the one behind HTTP.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.clients import at_once, of_sorted
from benchmarks.own_stack import ROOT, lockstep, own_stack

QUESTIONS = (
    "What happens to a file that cannot be parsed?",
    "How does a rename avoid embedding again?",
    "Which gates does a generation have to pass?",
    "When are objects deleted from the index?",
    "How is a citation checked?",
    "What does a canary do?",
    "How long does a run wait for another one?",
)
TOP_K = 5
TURNS = 2
OVER_HTTP = ("service", "http")


def measured(ask: Callable[[str], object], clients: int, seconds: float) -> dict[str, float]:
    """Ask without a pause in so many threads; return requests a second, p50 and p99 in ms, and the errors."""
    taken: list[float] = []
    errors: list[str] = []
    until = time.monotonic() + seconds

    def client(number: int) -> None:
        turn = number
        while time.monotonic() < until:
            began = time.perf_counter()
            try:
                ask(QUESTIONS[turn % len(QUESTIONS)])
            except Exception as error:  # noqa: BLE001 - the table counts them
                errors.append(repr(error))
            taken.append(time.perf_counter() - began)
            turn += 1

    lasted = at_once(client, clients)
    ordered = sorted(taken)
    return {
        "per_second": len(taken) / lasted,
        "p50": 1000 * of_sorted(ordered, 0.5),
        "p99": 1000 * of_sorted(ordered, 0.99),
        "errors": len(errors),
    }


def bare(uri: str, collection: str, mode: str, together: bool) -> Callable[[str], object]:
    """Return what searches as a bare script does."""
    from pymilvus import AnnSearchRequest, MilvusClient, RRFRanker

    from blocks.embedder import Embedder
    from tasks.embedding.model import load_model
    from tasks.text.words import words

    model, client = load_model(Embedder()), MilvusClient(uri=uri)
    fields = ["key", "text", "heading", "page", "text_hash", "chunk_index", "etag"]
    near: dict[str, Any] = {"metric_type": "COSINE", "params": {}}
    by_words: dict[str, Any] = {"metric_type": "BM25", "params": {}}

    def ask(question: str) -> object:
        vector = model.encode_question(question) if together else model.encode([question])[0]
        if mode == "dense":
            return client.search(
                collection, [vector], anns_field="embedding", search_params=near, limit=TOP_K, output_fields=fields
            )
        both = [
            AnnSearchRequest([vector], "embedding", near, 4 * TOP_K),
            AnnSearchRequest([" ".join(words(question))], "sparse", by_words, 4 * TOP_K),
        ]
        return client.hybrid_search(collection, both, RRFRanker(), limit=TOP_K, output_fields=fields)

    return ask


def served(url: str, mode: str) -> Callable[[str], object]:
    """Return what asks the service, over one connection for each thread."""
    place, own = urlsplit(url).netloc, threading.local()

    def ask(question: str) -> object:
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection(place, timeout=60)
        body = json.dumps({"question": question, "mode": mode, "top_k": TOP_K})
        own.connection.request("POST", "/search", body, {"content-type": "application/json"})
        answer = own.connection.getresponse()
        told = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(told.decode())
        return told

    return ask


def child(kind: str, where: str, collection: str, mode: str, seconds: float, clients: str) -> None:
    """Measure one kind in this process, and print a line of JSON for each number of clients."""
    ask = served(where, mode) if kind in OVER_HTTP else bare(where, collection, mode, kind == "together")
    measured(ask, 2, 2.0)  # warm
    for number in map(int, clients.split(",")):
        print(json.dumps({"clients": number, **measured(ask, number, seconds)}), flush=True)


def in_child(*arguments: str) -> list[dict[str, float]]:
    """Run :func:`child` in a process of its own."""
    argv = [sys.executable, "-m", "benchmarks.serve", "--child", *arguments]
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def best(runs: list[list[dict[str, float]]]) -> list[dict[str, float]]:
    """Return the better run for each number of clients."""
    return [max(same, key=lambda one: one["per_second"]) for same in zip(*runs, strict=True)]


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs")
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--clients", default="1,8,32,128")
    options.add_argument("--mode", default="dense", choices=["dense", "hybrid"])
    options.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        kind, where, collection, mode, seconds, clients = given.child
        child(kind, where, collection, mode, float(seconds), clients)
        return
    with own_stack(given.folder):
        lockstep("sync")
        from deployments import environment, state

        records = state.load(environment.load().home).records
        milvus, service = records["milvus"].url, records["service"].url
        rest = (given.mode, str(given.seconds), given.clients)
        collection = lockstep("search", "warm")["collection"]
        runs: dict[str, list[list[dict[str, float]]]] = {"alone": [], "together": [], "http": [], "service": []}
        with bare_server(milvus, collection, given.mode) as behind_http:
            places = {"alone": milvus, "together": milvus, "http": behind_http, "service": service}
            for _ in range(TURNS):
                for kind, made in runs.items():
                    made.append(in_child(kind, places[kind], collection, *rest))
        show({kind: best(made) for kind, made in runs.items()}, given.mode)


@contextmanager
def bare_server(*arguments: str) -> Iterator[str]:
    """Start the bare script behind HTTP, and give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [sys.executable, "-m", "benchmarks.bare_server", str(port), *arguments]
    process = subprocess.Popen(argv, cwd=ROOT)
    try:
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None:
                sys.exit("the bare server did not start")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def show(found: dict[str, list[dict[str, float]]], mode: str) -> None:
    """Print the table."""
    print(f"\n{mode} searches, 2 turns each, the better one; requests a second, p50 and p99 in ms")
    heads = ("bare alone", "bare together", "bare behind HTTP", "service")
    ratios = ("p50", "throughput", "p50 / HTTP", "throughput / HTTP")
    print(f"{'clients':>8}" + "".join(f"{head:>26}" for head in heads) + "".join(f"{head:>19}" for head in ratios))
    for alone, together, behind, service in zip(*(found[kind] for kind in found), strict=True):
        kinds = (alone, together, behind, service)
        cells = [f"{one['per_second']:8.1f}/s {one['p50']:6.1f} {one['p99']:7.1f}" for one in kinds]
        top = max((alone, together), key=lambda one: one["per_second"])
        shares = [service[what] / floor[what] for floor in (top, behind) for what in ("p50", "per_second")]
        errors = f"   {service['errors']:.0f} errors" if service["errors"] else ""
        row = "".join(f"{cell:>26}" for cell in cells) + "".join(f"{share:19.2f}" for share in shares)
        print(f"{alone['clients']:8.0f}{row}{errors}")


if __name__ == "__main__":
    main()
