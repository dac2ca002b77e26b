"""What counts as a question, one by one and in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.cli.questions_file import read_questions
from tasks.errors import MisuseError
from tasks.retrieval.question import LONGEST, Question, checked


def test_a_question_is_stripped() -> None:
    assert checked("  How are deletes handled?\n") == "How are deletes handled?"
    assert checked("x" * LONGEST) == "x" * LONGEST


@pytest.mark.parametrize("question", ["", "  ", "\n\t", "\u3000"])
def test_an_empty_question_is_misuse(question: str) -> None:
    with pytest.raises(MisuseError, match="the question is empty"):
        checked(question)


def test_an_absurdly_long_question_is_misuse() -> None:
    with pytest.raises(MisuseError, match="10,001 characters; the limit is 10,000"):
        checked("x" * (LONGEST + 1))


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x1b", "\x7f", "\x9b"])
def test_a_control_character_is_misuse_and_named(character: str) -> None:
    with pytest.raises(MisuseError, match=rf"control character \(U\+{ord(character):04X}\) at position 4\. Remove it"):
        checked(f"Why{character}?")


def test_what_is_no_utf_8_is_misuse() -> None:
    with pytest.raises(MisuseError, match="not valid UTF-8 at character 4"):
        checked(b"Why\xff?".decode("utf-8", "surrogateescape"))


def test_lines_and_all_scripts_are_fine() -> None:
    question = "Why\tthis,\r\nand what is \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f468\u200d\U0001f469?"
    assert checked(question) == question


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "questions.jsonl"


def test_a_file_of_questions(file: Path) -> None:
    file.write_text('{"id": "q1", "question": " Why? "}\n\n{"question": "Größe?", "id": 2, "more": []}\n', "utf-8")
    assert read_questions(file) == [Question("q1", "Why?"), Question("2", "Größe?")]


def test_an_empty_file_has_no_questions(file: Path) -> None:
    file.write_text("\n \n")
    assert read_questions(file) == []


def test_a_file_written_on_windows(file: Path) -> None:
    file.write_bytes(b'\xef\xbb\xbf{"id": "q1", "question": "Why?"}\r\n{"id": "q2", "question": "How?"}\r\n')
    assert read_questions(file) == [Question("q1", "Why?"), Question("q2", "How?")]


@pytest.mark.parametrize("character", ["\u2028", "\x85", "\u2029"])
def test_a_line_ends_where_json_says_so(file: Path, character: str) -> None:
    file.write_text(f'{{"id": "q1", "question": "two{character}lines?"}}\n', "utf-8")
    assert read_questions(file) == [Question("q1", f"two{character}lines?")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("not json", 'is not a JSON object with "id" and "question": not json'),
        ("[" * 100_000, 'is not a JSON object with "id" and "question"'),
        ('{"id": ' * 100_000, 'is not a JSON object with "id" and "question"'),
        ('{"id": ' + "9" * 5000 + ', "question": "Why?"}', 'is not a JSON object with "id" and "question"'),
        ("x" * 1_000_000, 'is not a JSON object with "id" and "question"'),
        ('{"id": "q", "question": "' + "x" * 1_000_000 + '"}', "the question has 1,000,000 characters"),
        ('{"id": "q", "question": "Why\\u0000?"}', "control character"),
        ('{"id": "q", "question": "\\ud800"}', "the question is not valid UTF-8"),
        ('{"id": "\\udfff", "question": "Why?"}', "the id is not valid UTF-8"),
        ('{"id": "q"}', 'is not a JSON object with "id" and "question"'),
        ('{"question": "Why?"}', 'is not a JSON object with "id" and "question"'),
        ('["q", "Why?"]', 'is not a JSON object with "id" and "question"'),
        ('{"id": "q", "question": 5}', 'is not a JSON object with "id" and "question"'),
        ('{"id": "q", "question": null}', 'is not a JSON object with "id" and "question"'),
        ("3", 'is not a JSON object with "id" and "question"'),
        ('{"id": "q", "question": "  "}', "the question is empty"),
        ('{"id": "q", "question": "' + "x" * 10_001 + '"}', "10,001 characters"),
    ],
)
def test_a_bad_line_is_named_by_its_number(file: Path, line: str, words: str) -> None:
    file.write_text(f'{{"id": "q1", "question": "Why?"}}\n\n{line}\n', "utf-8")
    with pytest.raises(MisuseError) as caught:
        read_questions(file)
    assert f"{file}, line 3" in str(caught.value)
    assert words in str(caught.value)
    assert len(str(caught.value)) < len(str(file)) + 200


def test_a_file_that_cannot_be_read_is_misuse(file: Path, tmp_path: Path) -> None:
    for path in (file, tmp_path):
        with pytest.raises(MisuseError, match=r"--queries-file .* cannot be read"):
            read_questions(path)
    file.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(MisuseError, match="cannot be read"):
        read_questions(file)
