"""Golden questions: how they are read, and what is said of a bad line."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks.s3_source import S3Source
from tasks.bucket.listing import selected, without_golden
from tasks.errors import MisuseError
from tasks.evaluation.golden import Golden, check_known, only_known, parse_golden, read_golden
from tests.support.servers import ROOT

LINE = '{"question": "Where?", "relevant": ["a.md", "b.md", "a.md"], "answer": "Here."}'


def test_a_line_is_a_question_with_the_keys_that_answer_it() -> None:
    text = f'\ufeff{LINE}\n\n{{"question": " Who? ", "relevant": []}}\n'
    assert parse_golden(text, "f") == [Golden("Where?", ("a.md", "b.md"), "Here."), Golden("Who?", ())]


@pytest.mark.parametrize(
    "line",
    [
        "not JSON", "[]", '"text"', '{"question": "Where?"}', '{"relevant": ["a.md"]}',
        '{"question": "Where?", "relevant": "a.md"}', '{"question": "Where?", "relevant": [1]}',
        '{"question": "Where?", "relevant": [""]}', '{"question": 7, "relevant": ["a.md"]}',
        '{"question": " ", "relevant": ["a.md"]}',
    ],
)  # fmt: skip
def test_a_bad_line_is_named(line: str) -> None:
    with pytest.raises(MisuseError, match=r"golden\.jsonl, line 2"):
        parse_golden(f"{LINE}\n{line}", "golden.jsonl")


def test_a_file_without_a_question_to_measure_is_refused(tmp_path: Path) -> None:
    source = S3Source(bucket="documents")
    for text in ("", '{"question": "Who?", "relevant": []}'):
        (tmp_path / "golden.jsonl").write_text(text)
        with pytest.raises(MisuseError, match="no golden question with a relevant key"):
            read_golden(str(tmp_path / "golden.jsonl"), source)
    with pytest.raises(MisuseError, match="cannot be read"):
        read_golden(str(tmp_path / "nothing.jsonl"), source)
    with pytest.raises(MisuseError, match="s3://BUCKET/KEY"):
        read_golden("s3://documents", source)


def test_keys_that_are_not_indexed_are_told_or_left_out() -> None:
    questions = [Golden("One?", ("a.md", "gone.md")), Golden("Two?", ("gone.md",)), Golden("Three?", ())]
    with pytest.raises(MisuseError, match=r"'gone\.md', which should answer 'One\?', is not in docs_g0001"):
        check_known(questions, {"a.md"}, "golden.jsonl", "docs_g0001")
    assert only_known(questions, {"a.md"}) == [Golden("One?", ("a.md",)), Golden("Three?", ())]


def test_golden_questions_in_the_bucket_are_not_indexed() -> None:
    source = S3Source(bucket="documents", exclude=["*.tmp"])
    spared = without_golden(source, "s3://documents/tests/golden[1].jsonl")
    assert not selected("tests/golden[1].jsonl", spared.include, spared.exclude)
    assert selected("tests/golden1.jsonl", spared.include, spared.exclude)
    assert not selected("a.tmp", spared.include, spared.exclude)
    for elsewhere in ("", "golden.jsonl", "s3://others/golden.jsonl"):
        assert without_golden(source, elsewhere) is source


@pytest.mark.parametrize("name", ["prose", "technical"])
def test_the_sets_for_measuring_are_whole(name: str) -> None:
    folder = ROOT / "benchmarks" / "retrieval"
    questions = parse_golden((folder / f"{name}.jsonl").read_text(), name)
    assert len([one for one in questions if one.relevant]) >= 60
    assert len({one.question for one in questions}) == len(questions)
    if name == "prose":
        there = {path.name for path in (folder / "prose").glob("*.md")}
        assert {key for one in questions for key in one.relevant} <= there
