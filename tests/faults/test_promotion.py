"""What may stand between a generation that is ready and the queries: golden questions, a person, a canary."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort

from blocks.settings import Settings
from flows.approval import Approval
from flows.audit import audit
from flows.collect_garbage import collect_garbage
from flows.promote import promote
from flows.rebuild import rebuild
from flows.rollback import rollback
from flows.sync import sync
from tasks.errors import GateError, MisuseError, RejectedError
from tasks.generations.overview import overview
from tasks.generations.swap import swap
from tasks.ledger.canary import Canary, begin_canary, canary_of, end_canary
from tasks.ledger.database import now
from tasks.pipelines import load_pipeline, save_pipeline
from tests.support.generations import TOPICS, document, found, opened, states
from tests.support.servers import Bucket

QUESTIONS = [f"What does part {part} tell of {topic}?" for topic in TOPICS for part in range(6)]


@pytest.fixture
def golden(tmp_path: Path) -> str:
    lines = ({"question": f"What is told of {topic}?", "relevant": [f"{topic}.md"]} for topic in TOPICS)
    path = tmp_path / "golden.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def test_a_generation_that_answers_worse_is_not_promoted(
    make_pipeline: Callable[..., str], bucket: Bucket, golden: str
) -> None:
    """Only the headings say what these documents are about; without them no vector tells one from another."""
    for topic in TOPICS:
        parts = "\n\n".join(f"## Part {n} of {topic}\n\nMuch is told of it here, in part {n}." for n in range(3))
        bucket.put(f"{topic}.md", f"# On {topic}\n\n{parts}")
    for number in range(8):  # ten places for more than ten objects
        bucket.put(f"more-{number}.md", f"# Subject {number}\n\n## Part 1\n\nMuch is told of it here, in part 1.")
    name = make_pipeline(golden=golden, mode="dense")
    sync(name)
    with pytest.raises(GateError, match=r"golden ndcg@10 lost is 0\.\d+, must be ≤ 0\.01"):
        rebuild(name, Settings(embed_heading=False, golden=golden, mode="dense"))
    assert states(name) == {1: "live", 2: "ready"}
    assert overview(name)[0]["quality"]["ndcg@10"] < 0.9
    assert promote(name, force="only a test", by="the tests").promoted
    assert overview(name)[0]["forced"] == {"who": "the tests", "why": "only a test"}
    assert "Promotion forced by the tests: only a test" in report(name)
    # And back: better than the live one is good enough.
    done = rebuild(name, Settings(golden=golden, index_type="FLAT", mode="dense"))
    assert {gate["name"] for gate in done.gates} >= {"golden recall@10 lost", "golden ndcg@10 lost"}
    assert "### Better, most first" in report(name)


def report(name: str) -> str:
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter.model_validate({"key": {"any_": [f"promote-{name}"]}})
        newest, *_ = client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC)
    return str(newest.data)


def test_golden_questions_that_cannot_be_read_stop_a_promotion_before_it_begins(name: str, tmp_path: Path) -> None:
    rebuild(name, Settings(embed_heading=False), promote="manual")
    (tmp_path / "bad.jsonl").write_text('{"question": "?"}')
    for golden, said in ((str(tmp_path / "bad.jsonl"), "line 1"), ("/nowhere.jsonl", "cannot be read")):
        with pytest.raises(MisuseError, match=said):
            promote(name, settings=Settings(embed_heading=False, golden=golden))
    assert states(name) == {1: "live", 2: "ready"}


def answer_the_form(collection: str, before: Callable[[], Any] = lambda: None, **said: Any) -> threading.Thread:
    """Wait for the promotion to pause and fill its form in, as a person does in the Prefect UI."""

    def fill() -> None:
        with get_client(sync_client=True) as client:
            while not fills(client):
                time.sleep(0.2)

    def fills(client: SyncPrefectClient) -> bool:
        paused = FlowRunFilter.model_validate({"state": {"type": {"any_": ["PAUSED"]}}})
        for run in client.read_flow_runs(flow_run_filter=paused, sort=FlowRunSort.START_TIME_DESC):
            keys = run.state.state_details.run_input_keyset if run.state else None
            with suppress(httpx.HTTPStatusError):  # a run is paused a moment before its form is there
                if keys and collection in json.loads(client.read_flow_run_input(run.id, keys["description"])):
                    before()
                    client.resume_flow_run(run.id, run_input=said)
                    return True
        return False

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    return thread


def keys(name: str, collection: str) -> set[str]:
    store, _ = opened(name)
    return {row["key"] for row in store.rows(collection, ["key"])}


def test_a_person_approves_or_rejects_in_the_ui(name: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(embed_heading=False)
    collection = f"{name}_g0002"
    person = answer_the_form(collection, approve=False, comment="not on a Friday")
    with pytest.raises(RejectedError, match="not on a Friday"):
        rebuild(name, settings, promote="approve")
    person.join(10)
    assert states(name) == {1: "live", 2: "ready"}
    # The bucket goes on while a person thinks: what was deleted meanwhile is not there when queries come.
    person = answer_the_form(collection, lambda: bucket.delete("clouds.md"), approve=True, comment="fine")
    swapped: list[set[str]] = []

    def look_and_swap(resources: Any, chosen: str) -> None:
        swapped.append(keys(name, chosen))
        swap(resources, chosen)

    monkeypatch.setattr("flows.promote.swap", look_and_swap)
    assert promote(name, approve=True).promoted
    person.join(10)
    assert states(name) == {1: "retired", 2: "live"}
    assert swapped == [{f"{topic}.md" for topic in TOPICS} - {"clouds.md"}]


def test_an_approval_that_nobody_gives_is_a_rejection(name: str) -> None:
    hurried = Settings(embed_heading=False, approval_hours=0.0005)
    rebuild(name, hurried, promote="manual")
    with pytest.raises(RejectedError, match="nobody approved it"):
        promote(name, settings=hurried, approve=True)
    assert states(name) == {1: "live", 2: "ready"}


def test_the_form_takes_a_comment_and_says_no_by_default() -> None:
    assert Approval().approve is False


class Crowd:
    """Asks all the time, and keeps which generation answered what."""

    def __init__(self, name: str) -> None:
        self.name, self.answers, self.failures = name, list[tuple[str, str]](), list[str]()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        while not self._done.is_set():
            for question in QUESTIONS:
                if self._done.is_set():
                    return
                try:
                    self.answers.append((question, found(self.name, question).collection))
                except Exception as error:
                    self.failures.append(repr(error))
                self._done.wait(0.1)  # who never pauses leaves two cores no time for the promotion

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


LENIENT: dict[str, Any] = {
    "embed_heading": False, "canary_questions": 1, "canary_latency": 100.0, "canary_score": 2.0,
    "canary_abstention": 1.0,
}  # fmt: skip


def test_a_canary_answers_its_share_and_then_everything(name: str, bucket: Bucket) -> None:
    rebuild(name, Settings(**LENIENT), promote="manual")
    with Crowd(name) as crowd:
        done = promote(name, settings=Settings(**LENIENT), canary=[30, 100], hold_seconds=6.0)
        time.sleep(1.0)
    assert done.promoted
    assert not crowd.failures
    new, old = f"{name}_g0002", f"{name}_g0001"
    assert {collection for _, collection in crowd.answers} == {new, old}
    # A question that came to the new generation stays with it.
    first = {}
    for place, (question, collection) in enumerate(crowd.answers):
        if collection == new:
            first.setdefault(question, place)
    assert all(
        collection == new for place, (question, collection) in enumerate(crowd.answers)
        if question in first and place > first[question]
    )  # fmt: skip
    _, ledger = opened(name)
    assert canary_of(ledger, load_pipeline(name).alias) is None
    assert audit(name).consistent


def test_a_canary_that_fares_worse_takes_itself_back(name: str) -> None:
    """No search is as fast as it asks for."""
    rebuild(name, Settings(**LENIENT), promote="manual")
    strict = Settings(**{**LENIENT, "canary_score": 0.0, "canary_latency": 0.0001})
    with Crowd(name) as crowd, pytest.raises(GateError, match=r"ended at 50% of the questions: p95 is"):
        promote(name, settings=strict, canary=[50, 100], hold_seconds=10.0)
    assert states(name) == {1: "live", 2: "ready"}
    assert f"{name}_g0002" in {collection for _, collection in crowd.answers}
    assert {found(name, question).collection for question in QUESTIONS} == {f"{name}_g0001"}


def test_a_canary_that_nobody_asks_is_not_judged_good(name: str) -> None:
    rebuild(name, Settings(embed_heading=False), promote="manual")
    with pytest.raises(GateError, match="got only 0 questions, fewer than 20"):
        promote(name, canary=[50], hold_seconds=0.0)


@pytest.mark.long  # test_crash_points kills a canary at both of its places, and its next run goes on there
def test_a_canary_whose_run_died_goes_on_and_is_finished_by_the_next(name: str, bucket: Bucket) -> None:
    rebuild(name, Settings(**LENIENT), promote="manual")
    _, ledger = opened(name)
    alias = load_pipeline(name).alias
    begin_canary(ledger, Canary(alias, f"{name}_g0002", f"{name}_g0001", (50, 100), 0, 3.0, now()))  # and there it died
    answered = {found(name, question).collection for question in QUESTIONS}
    assert answered == {f"{name}_g0001", f"{name}_g0002"}
    # What answers is kept in step, all of it.
    bucket.put("late.md", document("lagoons"))
    bucket.delete("clouds.md")
    sync(name)
    store, _ = opened(name)
    for collection in answered:
        keys = {row["key"] for row in store.rows(collection, ["key"])}
        assert "late.md" in keys
        assert "clouds.md" not in keys
    with Crowd(name) as crowd:
        assert promote(name, settings=Settings(**LENIENT)).promoted
    assert not crowd.failures
    assert canary_of(ledger, alias) is None
    assert states(name) == {1: "retired", 2: "live"}


def test_the_way_back_from_a_canary_is_the_live_generation(name: str) -> None:
    rebuild(name, Settings(**LENIENT), promote="manual")
    refused: list[str] = []

    def promoting() -> None:
        with suppress(RejectedError):
            promote(name, settings=Settings(**LENIENT), canary=[50, 100], hold_seconds=100.0)
            return
        refused.append("ended by somebody")

    run = threading.Thread(target=promoting)
    run.start()
    _, ledger = opened(name)
    until = time.monotonic() + 60
    while canary_of(ledger, load_pipeline(name).alias) is None and time.monotonic() < until:
        time.sleep(0.2)
    done = rollback(name)
    assert (done.collection, done.before) == (f"{name}_g0001", f"{name}_g0002")
    run.join(60)
    assert refused
    assert states(name) == {1: "live", 2: "ready"}
    assert {found(name, question).collection for question in QUESTIONS} == {f"{name}_g0001"}


def test_a_promotion_measured_beside_another_generation_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is measured, somebody goes back to the generation before."""
    rebuild(name, Settings(embed_heading=False))
    rebuild(name, Settings(index_type="FLAT"), promote="manual")
    from tasks.evaluation import gates

    measure = gates.measure
    monkeypatch.setattr(gates, "measure", lambda *given: (rollback(name), measure(*given))[1])
    with pytest.raises(RejectedError, match="Promote again"):
        promote(name)
    assert states(name) == {1: "live", 2: "retired", 3: "ready"}


def test_garbage_is_never_what_answers_in_a_canary(name: str) -> None:
    kept = {"keep_generations": 1, "keep_hours": 0.0}
    rebuild(name, Settings(embed_heading=False), promote="manual")
    rebuild(name, Settings(index_type="FLAT", **kept))
    _, ledger = opened(name)
    block = load_pipeline(name)
    save_pipeline(block.model_copy(update={"settings": Settings(index_type="FLAT", **kept)}), block.embedder)
    begin_canary(ledger, Canary(block.alias, f"{name}_g0002", f"{name}_g0003", (50,), 0, 9.0, now()))
    assert collect_garbage(name) == [f"{name}_g0001"]
    end_canary(ledger, block.alias)
    assert collect_garbage(name) == [f"{name}_g0002"]


def test_a_refused_promotion_takes_its_canary_back(name: str) -> None:
    rebuild(name, Settings(**LENIENT), promote="manual")
    _, ledger = opened(name)
    alias = load_pipeline(name).alias
    begin_canary(ledger, Canary(alias, f"{name}_g0002", f"{name}_g0001", (50, 100), 0, 9.0, now()))
    with pytest.raises(GateError, match="p95 latency / live"):
        promote(name, settings=Settings(**LENIENT, gate_latency=0.0001))
    assert canary_of(ledger, alias) is None


def test_search_parameters_stay_with_their_generation(name: str) -> None:
    ivf = Settings(index_type="IVF_FLAT", index_params={"nlist": 4}, search_params={"nprobe": 4})
    rebuild(name, ivf, promote="manual")
    assert load_pipeline(name).settings.search_params == {}
    promote(name)
    assert load_pipeline(name).settings.search_params == {"nprobe": 4}
    rebuild(name, Settings(index_type="HNSW", search_params={"ef": 99}))
    assert load_pipeline(name).settings.search_params == {"ef": 99}
    rollback(name)
    assert load_pipeline(name).settings.search_params == {"nprobe": 4}
    rollback(name)
    assert load_pipeline(name).settings.search_params == {"ef": 99}


def test_a_sync_that_waited_for_a_swap_goes_on_with_what_is_live_then(name: str) -> None:
    """It was started with the settings of before; while it waits, others become the pipeline's."""
    from tasks.generations import opening
    from tasks.ledger.lease import writing

    _, ledger = opened(name)
    rebuild(name, Settings(embed_heading=False), promote="manual")
    outcome: list[Any] = []
    with writing(ledger, load_pipeline(name).alias, "a promotion", 10, lambda _: None):
        waiting = threading.Thread(target=lambda: outcome.append(sync(name).collection))
        waiting.start()
        time.sleep(3)  # it has loaded the pipeline and waits
        block = load_pipeline(name)
        from tasks.resources import Resources

        with Resources(block, block.settings) as resources:
            resources.store.point_alias(f"{name}_g0002")
            opening.finish_swap(resources, f"{name}_g0002")
    waiting.join(60)
    assert outcome == [f"{name}_g0002"]


@pytest.mark.long  # test_the_live_generation_is_synced_while_the_next_is_measured is its core; here changes never end
@pytest.mark.timeout(900)
def test_a_bucket_that_changes_all_through_a_rebuild(name: str, bucket: Bucket) -> None:
    done = threading.Event()
    changed: list[int] = []

    def change() -> None:
        number = 0
        while not done.is_set():
            bucket.put(f"new-{number % 20:02d}.md", document(f"subject {number}"))
            bucket.put(TOPICS[number % 8] + ".md", document(f"{TOPICS[number % 8]} and {number}"))
            if number % 3 == 0:
                bucket.delete(f"new-{(number * 7) % 20:02d}.md")
            number += 1
            changed.append(number)
            time.sleep(0.25)  # what changes faster than it is read is never indexed

    changing = threading.Thread(target=change)
    changing.start()
    try:
        promoted = rebuild(name, Settings(embed_heading=False))
    finally:
        done.set()
        changing.join()
    assert promoted.promoted
    assert len(changed) > 10
    sync(name)
    after = audit(name)
    assert after.consistent
    listed = bucket.client.list_objects_v2(Bucket=bucket.name)["KeyCount"]
    assert after.objects == listed
