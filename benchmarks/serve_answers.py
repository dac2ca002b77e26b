"""Does the service slow a chat model down? Its answers against the same prompts sent to vLLM directly, in one run.

    VLLM_BASE_URL=http://127.0.0.1:8000/v1 python -m benchmarks.serve_answers [FOLDER] [--clients 1,8] [--tokens 128]

Starts a stack of its own in a temporary home and indexes FOLDER (default: the project's own docs). It asks each
question once by the service's own code, to learn the prompt. Then the same prompts go to vLLM by the openai client, and
the questions to `/ask` and `/v1/chat/completions`, all streamed, in turn and twice; the better turn counts. A claim is
told when it is whole and checked, so it is compared with the moment at which vLLM has written it. Nothing is cached.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.clients import at_once
from benchmarks.own_stack import ROOT, lockstep, own_stack
from benchmarks.serve import QUESTIONS

TURNS = 2
Ask = Callable[[int], tuple[float, float]]
"""Asks one question by its number; returns the seconds to its first claim (or its end without one), and to its end."""


def prompts(pipeline: str, tokens: int) -> list[dict[str, Any]]:
    """Return what the chat model is sent for each question."""
    from tasks.answers.answer import answer
    from tasks.chat.client import Chat
    from tasks.errors import StoppedError
    from tasks.listeners import reader
    from tasks.pipelines import load_pipeline

    sent: list[dict[str, Any]] = []

    def note(chat: Chat, messages: Any, schema: Any, _heard: Any) -> Any:
        chat.model = chat.model or chat.client.models.list().data[0].id
        sent.append(chat._options(messages, schema))
        raise StoppedError("its prompt is all that is wanted")

    before, Chat._once = Chat._once, note  # type: ignore[method-assign,assignment]
    listening = reader.set(lambda _piece: None)
    try:
        block = load_pipeline(pipeline)
        settings = block.settings.model_copy(update={"max_answer_tokens": tokens, "cache_seconds": 0.0})
        for question in QUESTIONS:
            try:
                answer(block, question, settings)
            except StoppedError:
                continue
    finally:
        Chat._once = before  # type: ignore[method-assign]
        reader.reset(listening)
    return sent


def directly(base_url: str, options: list[dict[str, Any]]) -> Ask:
    """Return what asks vLLM itself."""
    import openai

    from tasks.answers.generate import so_far

    client = openai.OpenAI(base_url=base_url, api_key=os.environ.get("VLLM_API_KEY", "none"), max_retries=0)

    def ask(number: int) -> tuple[float, float]:
        given, began, first, text = options[number % len(options)], time.perf_counter(), 0.0, ""
        style = "structured" if "response_format" in given else "marked"
        with client.chat.completions.create(**given, stream=True, stream_options={"include_usage": True}) as stream:
            for chunk in stream:
                if chunk.choices and (piece := chunk.choices[0].delta.content):
                    text += piece
                    if not first and so_far(text, style):  # type: ignore[arg-type]
                        first = time.perf_counter() - began
        whole = time.perf_counter() - began
        return first or whole, whole

    return ask


def lines_of(url: str, path: str, body: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a streamed answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=600)
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    if answer.status != http.client.OK:
        raise RuntimeError(answer.read().decode())
    for line in answer:
        yield line.decode().rstrip("\n")
    connection.close()


def by_service(url: str, path: str, pipeline: str, tokens: int) -> Ask:
    """Return what asks the service."""

    def ask(number: int) -> tuple[float, float]:
        question, began, first = QUESTIONS[number % len(QUESTIONS)], time.perf_counter(), 0.0
        body: dict[str, Any] = {"question": question, "stream": True}
        if path != "/ask":
            turns = [{"role": "user", "content": question}]
            body = {"model": pipeline, "messages": turns, "stream": True, "max_tokens": tokens}
        for line in lines_of(url, path, body):
            told = (
                line.startswith("event: claim")
                if path == "/ask"
                else '"content":"' in line and '"content":""' not in line
            )
            if told and not first:
                first = time.perf_counter() - began
        whole = time.perf_counter() - began
        return first or whole, whole

    return ask


def measured(ask: Ask, clients: int) -> dict[str, float]:
    """Ask each question once for each client; return the medians of both times, and answers a second."""
    taken: list[tuple[float, float]] = []

    def client(offset: int) -> None:
        taken.extend(ask(offset + turn) for turn in range(len(QUESTIONS)))

    lasted = at_once(client, clients)
    return {
        "first": statistics.median(first for first, _ in taken),
        "whole": statistics.median(whole for _, whole in taken),
        "per_second": len(taken) / lasted,
    }


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs")
    options.add_argument("--clients", default="1,8")
    options.add_argument("--tokens", type=int, default=128)
    given = options.parse_args()
    vllm = os.environ.get("VLLM_BASE_URL")
    if not vllm:
        sys.exit("Set VLLM_BASE_URL to a chat server, up to and with /v1.")
    # vLLM reads a prompt that it has seen from its cache. All ways have the same prompts, and each is warmed first.
    os.environ |= {"LOCKSTEP_MAX_ANSWER_TOKENS": str(given.tokens), "LOCKSTEP_CACHE_SECONDS": "0"}
    with own_stack(given.folder) as (env, _):
        lockstep("sync")
        from deployments import state
        from deployments.cli.session import open_session

        pipeline = open_session(env, saves=True).pipeline
        service = state.load(env.home).records["service"].url
        ways: dict[str, Ask] = {
            "vLLM itself": directly(vllm, prompts(pipeline, given.tokens)),
            "/ask": by_service(service, "/ask", pipeline, given.tokens),
            "/v1/chat/completions": by_service(service, "/v1/chat/completions", pipeline, given.tokens),
        }
        for ask in ways.values():
            measured(ask, 1)  # warm
        print("\n| clients | way | first claim, s | whole, s | answers/s | first claim, ratio | throughput, ratio |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for clients in map(int, given.clients.split(",")):
            runs = [{way: measured(ask, clients) for way, ask in ways.items()} for _ in range(TURNS)]
            best = {way: max((run[way] for run in runs), key=lambda one: one["per_second"]) for way in ways}
            bare = best["vLLM itself"]
            for way, one in best.items():
                ratios = f"{one['first'] / bare['first']:.2f} | {one['per_second'] / bare['per_second']:.2f}"
                figures = f"{one['first']:.2f} | {one['whole']:.2f} | {one['per_second']:.2f}"
                print(f"| {clients} | {way} | {figures} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
