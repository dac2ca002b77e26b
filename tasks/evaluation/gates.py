"""What a generation has to pass before queries come to it."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from prefect import task

from tasks.documents.chunk import embedded_text, hash_of
from tasks.errors import MisuseError
from tasks.evaluation.evaluate import Evaluation, evaluated, listed
from tasks.evaluation.golden import Golden, keys_of, only_known
from tasks.evaluation.index_recall import Side, latencies, percentile, recall_at_10, sample, unit
from tasks.generations.deletion_limit import unasked
from tasks.generations.fingerprint import fingerprint, fingerprint_of
from tasks.generations.opening import as_generation
from tasks.ledger.canary import canary_of
from tasks.ledger.database import digest
from tasks.ledger.generations import record_gates
from tasks.ledger.quarantine import quarantined_here_alone
from tasks.retries import RETRIED

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.resources import Tools

SEED = 20
"""The same chunks are tried each time, so that two runs can be compared."""
EMBEDDED_AGAIN = 20
SAME_VECTOR = 0.99
"""Least cosine of two embeddings of one text: another batch size or processor changes the last digits."""
NOTHING_SECONDS = 0.005
FEWEST_ROUNDS, MOST_ROUNDS = 3, 12
LONGEST_SECONDS = 120
"""No round is begun after this time: where a search takes seconds, a dozen rounds would take half an hour."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One thing that was measured, and the bound that it had to keep."""

    name: str
    value: float
    bound: str
    passed: bool
    detail: str = ""

    def as_row(self) -> dict[str, Any]:
        """Return it as the reports and the ledger have it: name, value, bound, passed, detail."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class GateReport:
    """How a generation did, beside the live one if there is any.

    ``evaluations`` are what the golden questions found in it and, second, in the live one; none without questions.
    """

    collection: str
    live: str | None
    gates: tuple[Gate, ...]
    evaluations: tuple[Evaluation, ...] = ()

    @property
    def failed(self) -> tuple[Gate, ...]:
        """The gates that it did not pass."""
        return tuple(gate for gate in self.gates if not gate.passed)

    def __str__(self) -> str:
        """Return what failed, against which bound; or that nothing did."""
        failed = (f"{gate.name} is {gate.value:g}, must be {gate.bound}" for gate in self.failed)
        return "; ".join(failed) or "all gates passed"


def at_most(name: str, value: float, bound: float, detail: str = "") -> Gate:
    """Return a gate that a value passes up to the bound."""
    return Gate(name, round(value, 4), f"≤ {bound:g}", value <= bound, detail)


def at_least(name: str, value: float, bound: float, detail: str = "") -> Gate:
    """Return a gate that a value passes from the bound on."""
    return Gate(name, round(value, 4), f"≥ {bound:g}", value >= bound, detail)


def measure(
    tools: Tools, collection: str, live: str | None, questions: Sequence[Golden], say: Callable[[str], None]
) -> GateReport:
    """Have a generation indexed and loaded and measure it, beside the live one if there is any; changes nothing."""
    going = canary_of(tools.ledger, tools.store.alias)
    answers = going is not None and going.collection == collection
    tools.store.seal(collection, tools.settings.wait_for_writer_seconds, reload=not answers)
    chance = random.Random(SEED)
    sampled = sample(tools.store, collection, tools.settings.gate_samples, chance)
    say(f"{collection}: {len(sampled)} chunks chosen to be searched for")
    gates = [
        agree(tools, collection),
        agree_in_detail(tools, collection, sorted({row["key"] for row in sampled})),
        agree_in_vectors(tools, collection, [row["id"] for row in sampled[:EMBEDDED_AGAIN]]),
        of_fingerprint(tools, collection),
        recall(tools, collection, [row["embedding"] for row in sampled]),
    ]
    evaluations: tuple[Evaluation, ...] = ()
    if live and live != collection:
        of_live = sample(tools.store, live, tools.settings.gate_samples, chance)
        old = Side(live, [row["embedding"] for row in of_live], as_generation(tools, live).settings)
        new = Side(collection, [row["embedding"] for row in sampled], tools.settings)
        gates += [latency(tools, old, new), quarantine(tools, collection, live), size(tools, collection, live)]
    if questions:
        say(f"asking {len(questions)} golden questions of {' and '.join(filter(None, (collection, live)))}")
        evaluations = golden(tools, collection, live, questions)
        if len(evaluations) > 1:
            new_one, live_one = evaluations
            gates += lost(tools, new_one, live_one, len(questions) - len(new_one.outcomes))
    return GateReport(collection, live, tuple(gates), evaluations)


def agree(tools: Tools, collection: str) -> Gate:
    """Compare the number of chunks, counted by Milvus with strong consistency, with that in the ledger."""
    counted, recorded = tools.store.count(collection), tools.ledger.totals(collection)["chunks"]
    return at_most("chunks that differ", abs(counted - recorded), 0, f"Milvus {counted:,}, ledger {recorded:,}")


def agree_in_detail(tools: Tools, collection: str, keys: Sequence[str]) -> Gate:
    """Compare the ids of some objects' chunks with the digest that the ledger has of them."""
    held: dict[str, list[str]] = {}
    for row in tools.store.rows_of(collection, keys, ["key", "id"]):
        held.setdefault(row["key"], []).append(row["id"])
    known = tools.ledger.confirmed(collection, keys)
    wrong = [key for key in keys if key not in known or known[key][1] != digest(held.get(key, []))]
    return at_most("objects that differ", len(wrong), 0, ", ".join(wrong[:3]) or f"of {len(keys)} sampled")


def agree_in_vectors(tools: Tools, collection: str, ids: Sequence[str]) -> Gate:
    """Embed some chunks' texts again and compare the vectors with those that Milvus has."""
    import numpy as np

    rows = tools.store.with_ids(collection, ids, ["text", "heading", "text_hash", "embedding"])
    texts = [embedded_text(row["heading"], row["text"], tools.settings, tools.measure) for row in rows]
    # A heading with the separator in it cannot be told from two: those are left out.
    pairs = [(row, text) for row, text in zip(rows, texts, strict=True) if hash_of(text) == row["text_hash"]]
    wrong = 0
    if pairs:
        again = tools.model.encode([text for _, text in pairs], tools.pipeline.embedder.document_prompt)
        held = np.asarray([row["embedding"] for row, _ in pairs], dtype=np.float32)
        cosines = (unit(again) * unit(held)).sum(axis=1)
        wrong = int((~(cosines >= SAME_VECTOR)).sum())
    return at_most("vectors that differ", wrong, 0, f"of {len(pairs)} embedded again")


def of_fingerprint(tools: Tools, collection: str) -> Gate:
    """Compare what the collection says it was built with with what the ledger says."""
    said = fingerprint(tools.ledger.ingredients(collection) or {})
    kept = fingerprint_of(tools.store, collection)
    return at_most("fingerprint differs", int(kept not in (None, said)), 0, f"Milvus {kept}, ledger {said}")


def recall(tools: Tools, collection: str, vectors: Sequence[Any]) -> Gate:
    """Measure how much of what exact search finds the index finds, with the search parameters of queries."""
    found = recall_at_10(tools.store, collection, vectors, tools.settings) if len(vectors) else 1.0
    what = f"{tools.settings.index_type}, {len(vectors)} searches against exact search"
    return at_least("recall@10 of the index", found, tools.settings.gate_recall, what)


def latency(tools: Tools, live: Side, new: Side) -> Gate:
    """Compare the p95 search latency with the live one's, searching in turns.

    What looks too slow is measured for longer before it is believed: other work on the machine may be to blame, but not
    for half of the searches being too slow. Less than 5 ms more is not too slow, whatever the multiple, unless the
    bound asks for a faster one (under 1).
    """
    bound, of_live, of_new = tools.settings.gate_latency, list[float](), list[float]()
    old = young = 1.0
    until = time.monotonic() + LONGEST_SECONDS
    for done in range(1, MOST_ROUNDS + 1):
        one, other = latencies(tools.store, live, new)
        of_live += one
        of_new += other
        if not of_live or not of_new:  # nothing to search for
            break
        old, young = percentile(of_live, 95), percentile(of_new, 95)
        settled = fast_enough(young, old, bound) or not fast_enough(percentile(of_new, 50), old, bound)
        if time.monotonic() > until or (done >= FEWEST_ROUNDS and settled):
            break
    said = f"p95 {1000 * young:.1f} ms, live {1000 * old:.1f} ms"
    passed = fast_enough(young, old, bound)
    if passed and young / old > bound:
        said += ": less than 5 ms more"
    return Gate("p95 latency / live", round(young / old, 4), f"≤ {bound:g}", passed, said)


def fast_enough(seconds: float, live: float, bound: float) -> bool:
    """Tell whether searches that take so long are fast enough beside the live one's."""
    return seconds <= bound * live or (bound >= 1 and seconds - live < NOTHING_SECONDS)


def quarantine(tools: Tools, collection: str, live: str) -> Gate:
    """Count the objects that cannot be indexed here though the live generation holds the same version."""
    worse = quarantined_here_alone(tools.ledger, collection, live)
    return at_most("objects newly in quarantine", len(worse), 0, ", ".join(worse[:3]))


def size(tools: Tools, collection: str, live: str) -> Gate:
    """Compare how many objects it answers from with the live one: no fewer than a sync would leave there unasked."""
    new, old = tools.ledger.answering(collection), tools.ledger.answering(live)
    fewest = old - unasked(old, tools.settings)
    enough, said = new >= fewest, f"{new:,} objects, live {old:,}"
    if not enough and tools.consent.allow_deletions:
        enough, said = True, f"{said}: allowed"
    return Gate("objects / live", round(new / (old or 1), 4), f"≥ {fewest / (old or 1):.4g}", enough, said)


def golden(tools: Tools, collection: str, live: str | None, questions: Sequence[Golden]) -> tuple[Evaluation, ...]:
    """Ask the golden questions of a generation and of the live one: those that name objects which the bucket has.

    Raises ``MisuseError`` when there is none such.
    """
    both = [collection, live] if live and live != collection else [collection]
    # What the bucket lost meanwhile is in the live generation alone: neither is to blame. What cannot be indexed is.
    asked = only_known(questions, listed(tools, collection, keys_of(questions)))
    if not any(one.relevant for one in asked):
        raise MisuseError(f"no golden question in {tools.settings.golden} names an object of {collection}.")
    return tuple(evaluated(tools, one, None, asked) for one in both)


def lost(tools: Tools, new: Evaluation, live: Evaluation, left_out: int) -> list[Gate]:
    """Compare what the golden questions find with what they find in the live generation."""
    found = []
    for name in ("recall@10", "ndcg@10"):
        now, before = new.measures[name], live.measures[name]
        said = f"{now:.3f}, live {before:.3f}, {len(new.answerable)} questions"
        said += f", {left_out} left out: their objects are not in the bucket" if left_out else ""
        found.append(at_most(f"golden {name} lost", round(max(before - now, 0.0), 4), tools.settings.gate_golden, said))
    return found


@task(name="gates", task_run_name="gates of {collection}", **RETRIED)
def gates(
    tools: Tools, collection: str, live: str | None, questions: Sequence[Golden], say: Callable[[str], None]
) -> GateReport:
    """Measure a generation and keep the figures in the ledger; transient errors of any part start it anew."""
    report = measure(tools, collection, live, questions, say)
    quality = report.evaluations[0].measures if report.evaluations else {}
    record_gates(tools.ledger, collection, [gate.as_row() for gate in report.gates], quality)
    return report
