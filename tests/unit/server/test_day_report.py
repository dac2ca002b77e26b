"""The report of a day: what it says of its answers."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.server.records.day_report import begin_of, day_markdown, day_of

NOON = begin_of("2026-01-31") + 43_200_000


def row(**more: Any) -> dict[str, Any]:
    usual = {
        "at": NOON, "mode": "generated", "cached": False, "claims": 2, "unverified": 1, "verdict": None,
        "collection": "docs_g0001", "seconds": {"embed": 0.01, "total": 0.2},
    }  # fmt: skip
    return {**usual, **more}


def test_a_day_is_counted_and_measured() -> None:
    rows = [row(seconds={"embed": 0.01, "generate": n / 100, "total": n / 10}) for n in range(1, 101)]
    rows[0] |= {"verdict": "down"}
    rows[1] |= {"verdict": "up", "cached": True}
    rows += [row(mode="abstained", claims=0, unverified=0, collection="docs_g0002", at=NOON + 60_000, seconds={})]
    assert (
        day_markdown("docs", "2026-01-31", rows)
        == """# docs: 2026-01-31

Questions answered by 12:01 UTC: 101.

| answers |  | share |
| --- | --- | --- |
| generated | 100 | 99.0% |
| extractive | 0 | 0.0% |
| abstained | 1 | 1.0% |
| from the answer cache | 1 | 1.0% |

| checks |  | share |
| --- | --- | --- |
| claims without a verified quote | 100 | 50.0% |
| thumbs up | 1 | 1.0% |
| thumbs down | 1 | 1.0% |

## Seconds

| stage | answers | p50 | p95 | p99 |
| --- | --- | --- | --- | --- |
| total | 100 | 5.050 | 9.505 | 9.901 |
| embed | 100 | 0.010 | 0.010 | 0.010 |
| generate | 100 | 0.505 | 0.950 | 0.990 |

## Generations

| generation | answers |
| --- | --- |
| docs_g0001 | 100 |
| docs_g0002 | 1 |"""
    )


def test_a_day_without_claims_has_no_share_of_them() -> None:
    assert "| claims without a verified quote | 0 | – |" in day_markdown(
        "docs", "2026-01-31", [row(claims=0, unverified=0)]
    )


def test_a_name_does_nothing_in_a_report() -> None:
    shown = day_markdown("docs", "2026-01-31", [row(collection="a|b ![](https://elsewhere.example/x.png)")])
    assert "a\\|b" in shown
    assert "![](" not in shown


@pytest.mark.parametrize(
    ("at", "day"), [(0, "1970-01-01"), (NOON, "2026-01-31"), (begin_of("2026-02-01") - 1, "2026-01-31")]
)
def test_days_are_those_of_utc(at: int, day: str) -> None:
    assert day_of(at) == day
    assert begin_of(day) <= at < begin_of(day, 1)
