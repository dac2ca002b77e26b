"""`lockstep ask`: what is misuse, before anything is opened; what is printed while it comes."""

from __future__ import annotations

import pytest

from blocks.settings import Settings
from deployments.cli.ask import printed, with_given
from deployments.cli.main import main
from tasks.listeners import reader
from tasks.models import Checked


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["   "], "the question is empty"),
        (["x" * 100_000], "100,000 characters; the limit is 10,000"),
        (["Why\udcff?"], "not valid UTF-8"),
        (["Why\x07?"], "control character (U+0007"),
        (["Why?", "--stream", "--json"], "either --stream or --json"),
        (["Why?", "--top-k", "0"], "--top-k"),
        (["Why?", "--top-k", "10000"], "--top-k"),
        (["Why?", "--mode", "magic"], "--mode"),
        (["Why?", "--fallback", "magic"], "--fallback"),
        ([], "question"),
    ],
)
def test_misuse_is_one_message_and_exit_code_2(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["lockstep", "ask", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    printed = capsys.readouterr()
    assert (caught.value.code, printed.out) == (2, "")
    assert words in printed.err
    assert "Traceback" not in printed.err


def test_help_names_every_option(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["lockstep", "ask", "--help"])
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit):
        main()
    shown = capsys.readouterr().out
    for option in ("--stream", "--strict", "--fallback", "--no-cache", "--top-k", "--json", "--session"):
        assert option in shown


def test_options_replace_the_pipelines_settings_where_given() -> None:
    settings = Settings(strict=True, top_k=3)
    given = with_given(settings, {"strict": None, "top_k": 5, "fallback": "extractive", "cache_seconds": 0.0})
    assert (given.strict, given.top_k, given.fallback, given.cache_seconds) == (True, 5, "extractive", 0.0)
    assert with_given(settings, {"strict": False}).strict is False


def test_pieces_are_printed_as_they_come_and_the_line_is_ended(capsys: pytest.CaptureFixture[str]) -> None:
    with printed(stream=True) as shown:
        read = reader.get()
        assert read
        read(Checked("One. [1] "))
        assert capsys.readouterr().out == "One. [1] "
        read(Checked("[red]Two[/red] [2]"))
    assert capsys.readouterr().out == "[red]Two[/red] [2]\n"
    assert shown == ["One. [1] ", "[red]Two[/red] [2]"]
    assert reader.get() is None


def test_nobody_listens_unless_asked_to(capsys: pytest.CaptureFixture[str]) -> None:
    with printed(stream=False) as shown:
        assert reader.get() is None
    assert shown == []
    assert capsys.readouterr().out == ""
