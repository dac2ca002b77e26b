"""The gates that a generation has to pass before it answers queries."""

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
from tasks.ledger.generations import ingredients_of, record_gates
from tasks.ledger.objects import confirmed_versions, count_answering, count_objects
from tasks.ledger.quarantine import quarantined_here_alone
from tasks.task_runs import RETRIED, run_logger

if TYPE_CHECKING:
    from tasks.resources import Resources

SEED = 20
"""A fixed seed samples the same chunks each time, so that two runs can be compared."""
EMBEDDED_AGAIN = 20
SAME_VECTOR = 0.99
"""Lowest cosine between two embeddings of one text. Another batch size or processor changes the last digits."""
NOTHING_SECONDS = 0.005
FEWEST_ROUNDS, MOST_ROUNDS = 3, 12
LONGEST_SECONDS = 120
"""No round begins after this time. If a search takes seconds, a dozen rounds would take half an hour."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A measured value, its bound, and whether it passed."""

    name: str
    value: float
    bound: str
    passed: bool
    detail: str = ""

    def as_row(self) -> dict[str, Any]:
        """Return a row for the reports and the ledger: name, value, bound, passed, detail."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class GateReport:
    """The gates of a generation, compared with the live one if there is any.

    ``evaluations`` holds the golden questions' results: first this generation's, then the live one's. Empty without
    golden questions.
    """

    collection: str
    live: str | None
    gates: tuple[Gate, ...]
    evaluations: tuple[Evaluation, ...] = ()

    @property
    def failed(self) -> tuple[Gate, ...]:
        """The gates that did not pass."""
        return tuple(gate for gate in self.gates if not gate.passed)

    def __str__(self) -> str:
        """Return the failed gates with value and bound, or that all passed."""
        failed = (f"{gate.name} is {gate.value:g}, must be {gate.bound}" for gate in self.failed)
        return "; ".join(failed) or "all gates passed"


def at_most(name: str, value: float, bound: float, detail: str = "") -> Gate:
    """Return a gate that passes for values up to the bound."""
    return Gate(name, round(value, 4), f"≤ {bound:g}", value <= bound, detail)


def at_least(name: str, value: float, bound: float, detail: str = "") -> Gate:
    """Return a gate that passes for values from the bound on."""
    return Gate(name, round(value, 4), f"≥ {bound:g}", value >= bound, detail)


def measure(resources: Resources, collection: str, live: str | None, questions: Sequence[Golden]) -> GateReport:
    """Let Milvus index and load a generation, then measure its gates, compared with the live one if there is any.

    Changes no data.
    """
    canary = canary_of(resources.ledger, resources.store.alias)
    answers = canary is not None and canary.collection == collection
    resources.store.seal(collection, resources.settings.wait_for_writer_seconds, reload=not answers)
    chance = random.Random(SEED)
    sampled = sample(resources.store, collection, resources.settings.gate_samples, chance)
    run_logger().info(f"{collection}: sampled {len(sampled)} chunks to search for")
    gates = [
        agree(resources, collection),
        agree_in_detail(resources, collection, sorted({row["key"] for row in sampled})),
        agree_in_vectors(resources, collection, [row["id"] for row in sampled[:EMBEDDED_AGAIN]]),
        of_fingerprint(resources, collection),
        recall(resources, collection, [row["embedding"] for row in sampled]),
    ]
    evaluations: tuple[Evaluation, ...] = ()
    if live and live != collection:
        of_live = sample(resources.store, live, resources.settings.gate_samples, chance)
        old = Side(live, [row["embedding"] for row in of_live], as_generation(resources, live).settings)
        new = Side(collection, [row["embedding"] for row in sampled], resources.settings)
        gates += [
            latency(resources, old, new),
            quarantine(resources, collection, live),
            size(resources, collection, live),
        ]
    if questions:
        run_logger().info(
            f"searching {' and '.join(filter(None, (collection, live)))} for {len(questions)} golden questions"
        )
        evaluations = golden(resources, collection, live, questions)
        if len(evaluations) > 1:
            new_one, live_one = evaluations
            gates += lost(resources, new_one, live_one, len(questions) - len(new_one.outcomes))
    return GateReport(collection, live, tuple(gates), evaluations)


def agree(resources: Resources, collection: str) -> Gate:
    """Compare the number of chunks in Milvus, with strong consistency, with the number in the ledger."""
    counted, recorded = resources.store.count(collection), count_objects(resources.ledger, collection)["chunks"]
    return at_most("chunks that differ", abs(counted - recorded), 0, f"Milvus {counted:,}, ledger {recorded:,}")


def agree_in_detail(resources: Resources, collection: str, keys: Sequence[str]) -> Gate:
    """Compare the chunk ids of some objects with their digests in the ledger."""
    held: dict[str, list[str]] = {}
    for row in resources.store.rows_of(collection, keys, ["key", "id"]):
        held.setdefault(row["key"], []).append(row["id"])
    known = confirmed_versions(resources.ledger, collection, keys)
    wrong = [key for key in keys if key not in known or known[key][1] != digest(held.get(key, []))]
    return at_most("objects that differ", len(wrong), 0, ", ".join(wrong[:3]) or f"of {len(keys)} sampled")


def agree_in_vectors(resources: Resources, collection: str, ids: Sequence[str]) -> Gate:
    """Embed the texts of some chunks again and compare the vectors with those in Milvus."""
    import numpy as np

    rows = resources.store.with_ids(collection, ids, ["text", "heading", "text_hash", "embedding"])
    texts = [embedded_text(row["heading"], row["text"], resources.settings, resources.measure) for row in rows]
    # A heading that contains the separator cannot be split back into its path. Such chunks are left out.
    pairs = [(row, text) for row, text in zip(rows, texts, strict=True) if hash_of(text) == row["text_hash"]]
    wrong = 0
    if pairs:
        again = resources.model.encode([text for _, text in pairs], resources.pipeline.embedder.document_prompt)
        held = np.asarray([row["embedding"] for row, _ in pairs], dtype=np.float32)
        cosines = (unit(again) * unit(held)).sum(axis=1)
        wrong = int((~(cosines >= SAME_VECTOR)).sum())
    return at_most("vectors that differ", wrong, 0, f"of {len(pairs)} embedded again")


def of_fingerprint(resources: Resources, collection: str) -> Gate:
    """Compare the collection's fingerprint with the one in the ledger."""
    said = fingerprint(ingredients_of(resources.ledger, collection) or {})
    kept = fingerprint_of(resources.store, collection)
    return at_most("fingerprint differs", int(kept not in (None, said)), 0, f"Milvus {kept}, ledger {said}")


def recall(resources: Resources, collection: str, vectors: Sequence[Any]) -> Gate:
    """Measure the index's recall against exact search, with the search parameters of queries."""
    found = recall_at_10(resources.store, collection, vectors, resources.settings) if len(vectors) else 1.0
    what = f"{resources.settings.index_type}, {len(vectors)} searches against exact search"
    return at_least("recall@10 of the index", found, resources.settings.gate_recall, what)


def latency(resources: Resources, live: Side, new: Side) -> Gate:
    """Compare the p95 search latency with the live generation's, searching both in turns.

    If the p95 is too slow, more rounds follow, since other work on the machine may be the cause. If even the median
    is too slow, no more rounds are needed. Less than 5 ms more always passes, unless the bound asks for a faster
    generation (under 1).
    """
    bound, of_live, of_new = resources.settings.gate_latency, list[float](), list[float]()
    old = young = 1.0
    until = time.monotonic() + LONGEST_SECONDS
    for done in range(1, MOST_ROUNDS + 1):
        one, other = latencies(resources.store, live, new)
        of_live += one
        of_new += other
        if not of_live or not of_new:  # an empty generation has no vectors to search for
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
    """Return whether a search latency is low enough compared with the live generation's, both in seconds."""
    return seconds <= bound * live or (bound >= 1 and seconds - live < NOTHING_SECONDS)


def quarantine(resources: Resources, collection: str, live: str) -> Gate:
    """Count the objects in quarantine here whose same version is indexed in the live generation."""
    worse = quarantined_here_alone(resources.ledger, collection, live)
    return at_most("objects newly in quarantine", len(worse), 0, ", ".join(worse[:3]))


def size(resources: Resources, collection: str, live: str) -> Gate:
    """Compare the number of answering objects with the live generation's.

    The bound is what a sync of the live generation would leave without asking for consent.
    """
    new, old = count_answering(resources.ledger, collection), count_answering(resources.ledger, live)
    fewest = old - unasked(old, resources.settings)
    enough, said = new >= fewest, f"{new:,} objects, live {old:,}"
    if not enough and resources.consent.allow_deletions:
        enough, said = True, f"{said}: allowed"
    return Gate("objects / live", round(new / (old or 1), 4), f"≥ {fewest / (old or 1):.4g}", enough, said)


def golden(
    resources: Resources, collection: str, live: str | None, questions: Sequence[Golden]
) -> tuple[Evaluation, ...]:
    """Evaluate a generation and the live one with the golden questions whose objects are in the bucket.

    Raises ``MisuseError`` if there is no such question.
    """
    both = [collection, live] if live and live != collection else [collection]
    # Objects that the bucket lost meanwhile are only in the live generation, which is no fault of this one. Objects
    # in quarantine stay in the comparison.
    asked = only_known(questions, listed(resources, collection, keys_of(questions)))
    if not any(one.relevant for one in asked):
        raise MisuseError(f"no golden question in {resources.settings.golden} names an object of {collection}.")
    return tuple(evaluated(resources, one, None, asked) for one in both)


def lost(resources: Resources, new: Evaluation, live: Evaluation, left_out: int) -> list[Gate]:
    """Return the gates for the recall and nDCG that the golden questions lost against the live generation."""
    found = []
    for name in ("recall@10", "ndcg@10"):
        now, before = new.measures[name], live.measures[name]
        said = f"{now:.3f}, live {before:.3f}, {len(new.answerable)} questions"
        said += f", {left_out} left out: their objects are not in the bucket" if left_out else ""
        found.append(
            at_most(f"golden {name} lost", round(max(before - now, 0.0), 4), resources.settings.gate_golden, said)
        )
    return found


@task(name="gates", task_run_name="gates of {collection}", **RETRIED)
def gates(resources: Resources, collection: str, live: str | None, questions: Sequence[Golden]) -> GateReport:
    """Measure a generation and store the values in the ledger. After a transient error the gates start again."""
    report = measure(resources, collection, live, questions)
    quality = report.evaluations[0].measures if report.evaluations else {}
    record_gates(resources.ledger, collection, [gate.as_row() for gate in report.gates], quality)
    return report
