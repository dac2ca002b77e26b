"""Ranges of keys, listed at once over HTTP: no server makes objects vanish, whatever it does with ``start-after``."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.ledger import Ledger as LedgerBlock
from blocks.s3_source import S3Source
from tasks.bucket.listing import pages
from tasks.errors import TransientError
from tasks.indexing.batches import recorded
from tasks.indexing.plan import Plan, make_plan
from tasks.ledger.database import Database
from tasks.ledger.objects import confirm_indexed, count_objects, every_nth_key, record_wanted
from tasks.limits import LeftOut
from tasks.models import ObjectRef
from tests.integration.test_listing import CREDENTIALS, LAST, MORE, serving, token, xml
from tests.support.servers import ACCESS_KEY, SECRET_KEY, Bucket, Server, sqlite_url

ON = "docs_g0001"
KEYS = [f"k{number:02}" for number in range(20)]
CUTS = ["k04", "k09", "k14"]
SHUFFLED = random.Random(7).sample(KEYS, len(KEYS))


def shelf(keys: list[str], start: Callable[[str], int], asked: list[str] | None = None) -> Any:
    """A server that lists the keys in this order, three a page. ``start`` says where it begins after a key."""

    def answer(query: dict[str, str]) -> tuple[int, bytes]:
        after = query.get("start-after", "")
        if asked is not None:
            asked.append(after)
        first = int(query.get("continuation-token") or (start(after) if after else 0))
        end = first + 3
        said = [MORE, token(str(end))] if end < len(keys) else [LAST]
        return 200, xml(keys[first:end], *said)

    return answer


def after(keys: list[str]) -> Callable[[str], int]:
    return lambda key: sum(one <= key for one in keys)


def behind(keys: list[str]) -> Callable[[str], int]:
    return lambda key: keys.index(key) + 1 if key in keys else 0


def at(url: str, **more: Any) -> S3Source:
    return S3Source(bucket="b", endpoint_url=url, credentials=CREDENTIALS, **more)


def listed(source: S3Source, cuts: list[str], at_once: int = 3) -> list[str]:
    return [ref.key for page in pages(source.get_client(), source, None, cuts, at_once) for ref in page]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Database]:
    with Database(LedgerBlock(url=SecretStr(sqlite_url(tmp_path)), timeout_seconds=5)) as ledger:
        yield ledger


def plan_of(source: S3Source, ledger: Database, number: int, client: Any = None) -> Plan:
    """Plan with ranges of so many keys, and index what is wanted."""
    client = client or source.get_client()
    plan = make_plan(pages(client, source, None, every_nth_key(ledger, ON, number), 3), ledger, ON, "run")
    confirm_indexed(ledger, ON, {ref: ["i1"] for ref in recorded(ledger, ON, "written")}, [], "run")
    return plan


def wait_for_threads() -> None:
    deadline = time.monotonic() + 20
    while [thread for thread in threading.enumerate() if thread.name.startswith("list to")]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_sorting_server_is_asked_for_ranges() -> None:
    asked: list[str] = []
    with serving(shelf(KEYS, after(KEYS), asked)) as url:
        assert listed(at(url), CUTS) == KEYS
    assert set(asked) == {"", *CUTS}
    asked.clear()
    with serving(shelf(KEYS, after(KEYS), asked)) as url:
        assert listed(at(url), CUTS, 1) == KEYS
    assert set(asked) == {""}


@pytest.mark.parametrize(
    ("keys", "start"),
    [
        (KEYS, after(KEYS)),
        (KEYS, lambda _key: 0),
        (SHUFFLED, lambda _key: 0),
        (SHUFFLED, behind(SHUFFLED)),
        (SHUFFLED, after(SHUFFLED)),
    ],
    ids=["sorts", "sorts and ignores start-after", "ignores start-after", "goes by place", "goes by number"],
)
def test_no_object_is_deleted_or_counted_twice_whatever_the_server_does(
    ledger: Database, keys: list[str], start: Callable[[str], int]
) -> None:
    with serving(shelf(keys, start)) as url:
        assert str(plan_of(at(url), ledger, 5)) == "+20 ~0 -0"
        for number in (1, 2, 5, 7):
            plan = plan_of(at(url), ledger, number)
            assert (plan.todo, plan.unchanged) == (0, 20)
    gone = [key for key in keys if key != "k07"]
    with serving(shelf(gone, start)) as url:
        assert str(plan_of(at(url), ledger, 5)) == "+0 ~0 -1"
    assert count_objects(ledger, ON)["deleting"] == 1


def test_a_range_that_breaks_off_deletes_nothing(ledger: Database) -> None:
    whole = shelf(KEYS, after(KEYS))

    def broken(query: dict[str, str]) -> tuple[int, bytes]:
        first = query.get("start-after") == "k09" and "continuation-token" in query
        return (200, xml(["k13"], MORE)) if first else whole(query)

    with serving(whole) as url:
        plan_of(at(url), ledger, 5)
    with serving(broken) as url, pytest.raises(TransientError, match="broke off"):
        plan_of(at(url), ledger, 5)
    assert count_objects(ledger, ON) == {"indexed": 20, "chunks": 20}
    wait_for_threads()


def test_a_range_that_ends_before_the_next_one_deletes_nothing(ledger: Database) -> None:
    whole, half = shelf(KEYS, after(KEYS)), shelf(KEYS[:8], after(KEYS[:8]))

    with serving(whole) as url:
        plan_of(at(url), ledger, 5)
    with (
        serving(lambda query: (half if query.get("start-after") == "k04" else whole)(query)) as url,
        pytest.raises(TransientError, match=r"ended before 'k09', and 'k10' comes after that\. No object is deleted"),
    ):
        plan_of(at(url), ledger, 5)
    assert count_objects(ledger, ON) == {"indexed": 20, "chunks": 20}


def test_a_server_that_refuses_start_after_is_listed_from_the_beginning() -> None:
    whole = shelf(KEYS, after(KEYS))

    def refusing(query: dict[str, str]) -> tuple[int, bytes]:
        if "start-after" in query:
            return 501, b"<Error><Code>NotImplemented</Code><Message>no</Message></Error>"
        return whole(query)

    with serving(refusing) as url:
        assert listed(at(url), CUTS) == KEYS


def test_cuts_outside_the_prefix_are_no_cuts() -> None:
    """The ledger may hold the keys of another prefix, from before somebody moved the pipeline."""
    asked: list[str] = []
    with serving(shelf(KEYS, after(KEYS), asked)) as url:
        assert listed(at(url, prefix="k"), ["a", "k09", "z"]) == KEYS
    assert set(asked) == {"", "k09"}


def test_what_is_not_selected_or_cannot_be_kept_is_left_out_of_each_range() -> None:
    keys = sorted([*KEYS, "k09/", "k10.tmp", "k1" + "0" * 1024])
    left_out = LeftOut()
    with serving(shelf(keys, after(keys))) as url:
        source = at(url, exclude=["*.tmp"])
        found = pages(source.get_client(), source, left_out, ["k09", "k10", "k10.tmp"], 2)
        assert [ref.key for page in found for ref in page] == KEYS
    assert left_out.count == 1


def every_nth(ledger: Database, keys: list[str], number: int) -> list[str]:
    record_wanted(ledger, ON, [ObjectRef(key, "e1", 1, 5) for key in keys], "run")
    record_wanted(ledger, "docs_g0002", [ObjectRef("another", "e1", 1, 5)], "run")
    return every_nth_key(ledger, ON, number)


@pytest.mark.parametrize(
    ("keys", "number", "cuts"),
    [
        ([], 1, []),
        (["a"], 2, []),
        (["a"], 1, ["a"]),
        (["b", "a", "B"], 1, ["B", "a", "b"]),
        (KEYS, 5, ["k04", "k09", "k14", "k19"]),
        (KEYS, 6, ["k05", "k11", "k17"]),
        (KEYS, 20, ["k19"]),
        (KEYS, 21, []),
    ],
)
def test_the_ledger_says_where_to_cut(ledger_url: str, keys: list[str], number: int, cuts: list[str]) -> None:
    with Database(LedgerBlock(url=SecretStr(ledger_url), timeout_seconds=5)) as ledger:
        assert every_nth(ledger, keys, number) == cuts


def test_a_real_server_is_listed_in_ranges(s3_server: Server, bucket: Bucket, ledger: Database) -> None:
    keys = sorted(
        f"{name}{number}" for name in ("B", "a-b", "a.md", "a/b/c", "a/x ü", "é", "\U0001f600") for number in "123"
    )
    for key in random.Random(7).sample(keys, len(keys)):
        bucket.put(key, f"The text of {key}.")
    credentials = AwsCredentials(
        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SecretStr(SECRET_KEY), region_name="us-east-1"
    )
    source = S3Source(bucket=bucket.name, endpoint_url=s3_server.url, credentials=credentials)
    client, asked = source.get_client(), set[str]()

    def three_a_page(params: dict[str, Any], **_: Any) -> dict[str, Any]:
        asked.add(params.get("StartAfter", ""))
        return {**params, "MaxKeys": 3}

    client.meta.events.register("provide-client-params.s3.ListObjectsV2", three_a_page)
    for at_once in (1, 2, 4):
        asked.clear()
        ranges = pages(client, source, None, [keys[4], "b", keys[15]], at_once)
        assert [ref.key for page in ranges for ref in page] == keys
        assert len(asked) == (1 if at_once == 1 else 4)
    for number in (1, 3, 5):
        plan_of(source, ledger, number, client)
        assert count_objects(ledger, ON) == {"indexed": 21, "chunks": 21}
    for key in (keys[3], keys[12]):
        bucket.delete(key)
    assert str(plan_of(source, ledger, 5, client)) == "+0 ~0 -2"
