"""What a GFM renderer makes of reports: nothing that a document, a question, a key or a model says comes to life."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from types import SimpleNamespace

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.settings import Settings
from flows.ask import ask
from tasks.answers.report import answer_markdown
from tasks.evaluation.compare import differences
from tasks.evaluation.evaluate import Evaluation, Outcome
from tasks.evaluation.gates import Gate, GateReport
from tasks.evaluation.metrics import NAMES
from tasks.evaluation.report import evaluation_markdown, promotion_markdown
from tasks.indexing.audit import Findings
from tasks.indexing.report import audit_markdown, deletions_markdown, failures_markdown, sync_markdown
from tasks.models import Answer, Citation, Claim, Hit, Loss, SyncReport
from tasks.sanitize import visible
from tasks.text.markdown import inline, plain

OWN = "http://s3/documents/x"


def an_answer(said: str) -> str:
    citation = Citation(1, said, said, None, said, "c1", outdated=True)
    answer = Answer(
        said,
        said,
        "generated",
        (citation,),
        "docs_g0001",
        {"total": 0.5},
        {},
        (said,),
        claims=(Claim(said, (1,), True),),
        passages=(Hit("c1", said, 0.75, said, said, None),),
    )
    return answer_markdown(answer, {said: OWN})


def the_description_of_an_answer(said: str) -> str:
    """What the run of a question leaves beside its artifact, which the UI shows as Markdown too."""
    left: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.ask.load_pipeline", lambda _name: SimpleNamespace(settings=Settings()))
        patch.setattr("flows.ask.answer", lambda *_: Answer(said, "word", "generated", (), "docs_g0001", {}, {}))
        patch.setattr("flows.ask.create_markdown_artifact", lambda _shown, **given: left.update(given))
        ask.fn(said)
    return left["description"]


def stopped(said: str) -> str:
    return deletions_markdown("docs_g0001", said, Loss(3, 2, 1, (said,)))


def a_sync(said: str) -> str:
    report = SyncReport("docs_g0001", new=1, quarantined=1, left_out=1, left_out_named=(said,))
    quarantined = [{"key": said, "reason": said, "attempts": 2, "indexed_etag": None}]
    return sync_markdown(report, {"chunks": 1}, [("written", said, 3)], quarantined, Settings(system_prompt=said))


def failures(said: str) -> str:
    return failures_markdown("docs_g0001", [{"key": said, "reason": said}])


def an_audit(said: str) -> str:
    found = Findings("docs_g0001", fingerprint=said, left_out=1, left_out_named=[said])
    for kind in ("missing", "orphaned", "stale", "duplicated"):
        found.add(kind, f"{said} {kind}", said)
    return audit_markdown(found, 1)


def evaluations(said: str) -> tuple[Evaluation, Evaluation]:
    asked = Outcome(said, (said,), (said,), None, 0.5, False, 0.1, dict.fromkeys(NAMES, 0.0))
    found = Outcome(said, (said,), (said,), 2, 0.5, False, 0.1, dict.fromkeys(NAMES, 0.5))
    return Evaluation("docs_g0002", "dense", (asked, found)), Evaluation("docs_g0001", "dense", (found, asked))


def an_evaluation(said: str) -> str:
    one, other = evaluations(said)
    return evaluation_markdown(one, other, differences(one, other), said)


def a_promotion(said: str) -> str:
    row = {
        "collection": "docs_g0002",
        "objects": 1,
        "chunks": 1,
        "quarantined": 0,
        "vector_bytes": 1,
        "chunks_embedded": 1,
        "chunks_reused": 1,
        "seconds": 1.0,
        "created": "2026-01-01",
        "differs": [said],
    }
    report = GateReport("docs_g0002", "docs_g0001", (Gate("objects that differ", 1.0, "≤ 0", False, said),))
    return promotion_markdown(report, [row, {**row, "collection": "docs_g0001"}], force=said, by=said)


REPORTS = [
    an_answer,
    the_description_of_an_answer,
    a_sync,
    stopped,
    failures,
    an_audit,
    an_evaluation,
    a_promotion,
    plain,
    inline,
]
SLOW = [an_evaluation]  # it draws

HOSTILE = [
    "![](https://elsewhere.example/x.png)",
    "[click](https://elsewhere.example) [click][1] [1]: https://elsewhere.example",
    "[1]: https://elsewhere.example",
    "https://elsewhere.example/?q=1#x and http://a.example.",
    "HTTPS://ELSEWHERE.EXAMPLE",
    "www.elsewhere.example WWW.elsewhere.example/x",
    "a@elsewhere.example, mailto:a@elsewhere.example xmpp:a@elsewhere.example/x",
    "ftp://elsewhere.example/x",
    "eve@_elsewhere.example a@b_.com xmpp:a@b_.com/x mailto:a@b-_c.com",
    "<https://elsewhere.example> <a@elsewhere.example>",
    "<img src=https://elsewhere.example/x> <script>alert(1)</script>",
    "<!-- comment --> <?php ?> <![CDATA[x]]> <!DOCTYPE x>",
    "<iframe src='https://elsewhere.example'>",
    "&lt;img src=x&gt; &#60;b&#62; &#x68;ttps://elsewhere.example &amp;amp;",
    "&#104;ttps://elsewhere.example &#119;ww.elsewhere.example a&#64;elsewhere.example",
    "\\[x](https://elsewhere.example) \\<b> \\\\ \\| \\",
    "a | b | c\n--- | --- | ---\n1 | 2 | 3",
    ":-: ",
    "a\n:-:\nb",
    "# heading #\n## another",
    "title\n===\ntitle\n---",
    "* * *\n---\n___\n***",
    "- [ ] a task\n- [x] done\n+ plus\n* star\n1. one\n2) two",
    "> quoted\n>> twice",
    "```mermaid\ngraph TD; A-->B\n```",
    "~~~\nfenced\n~~~",
    "    indented\n\tindented",
    "`code` ``more`` ```",
    "**bold** *em* __bold__ _em_ ~~gone~~ ~gone~ a*b*c snake_case _x_y",
    "$x^2$ $$\\int$$ \\(x\\) \\[x\\]",
    "footnote[^1]\n\n[^1]: https://elsewhere.example",
    "two  \nlines\\\nhere",
    "paragraph\n\nanother\n\n\nand one",
    "javascript:alert(1) data:text/html,x [a](javascript:alert(1))",
    "@somebody #12 :smile: {{ x }} {% y %}",
    "a\x1b]8;;https://elsewhere.example\x1b\\b\u202e\u2066",
    "größe 日本語 → ‘quoted’ 42% 1.5 -3 +4 2.3.5 v1. 12. x",
]


class Read(HTMLParser):
    """The elements of a page, what they point to, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.texts: list[str] = [""]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.texts.append("")
        if tag not in ("br", "p"):  # an answer may have lines and paragraphs
            self.tags.append(tag)
        self.targets += [value or "" for name, value in attrs if name not in ("align", "alt")]

    def handle_endtag(self, _: str) -> None:
        self.texts.append("")

    def handle_data(self, data: str) -> None:
        self.texts[-1] += data

    def handle_comment(self, _: str) -> None:
        self.tags.append("comment")

    def handle_decl(self, _: str) -> None:
        self.tags.append("declaration")

    def handle_pi(self, _: str) -> None:
        self.tags.append("instruction")


def read(markdown: str) -> Read:
    page = Read()
    options = Options.CMARK_OPT_UNSAFE | Options.CMARK_OPT_FOOTNOTES  # raw HTML as it is: nothing is filtered
    page.feed(cmarkgfm.github_flavored_markdown_to_html(markdown, options))
    page.close()
    return page


# What Prefect's UI (remark-gfm) takes for an address in the texts of a page that is parsed already, after all escapes.
ADDRESS = re.compile(r"(https?://|www(?=\.))([-.\w]+)([^ \t\r\n]*)|(?:^|[\s\W])([-.\w+]+)@([-\w]+(?:\.[-\w]+)+)", re.I)


def check(report: Callable[[str], str], said: str) -> None:
    page, harmless = read(report(said)), read(report("word"))
    assert page.tags == harmless.tags
    own = [one for one in page.targets if one != OWN and not one.startswith("data:image/svg+xml;base64,")]
    assert not own
    assert not [text for text in page.texts if ADDRESS.search(text)]
    shown = " ".join(" ".join(page.texts).replace("\u200b", "").split())
    assert " ".join(visible(said).replace("\u200b", "").split()) in shown


@pytest.mark.parametrize("said", HOSTILE)
@pytest.mark.parametrize("report", [one for one in REPORTS if one not in SLOW])
def test_a_report_shows_what_others_say_and_does_nothing_of_it(report: Callable[[str], str], said: str) -> None:
    check(report, said)


def test_nor_does_an_evaluation() -> None:
    check(an_evaluation, " ".join(HOSTILE[:6]))
    check(an_evaluation, "\n".join(HOSTILE[6:]))


MARKS = st.sampled_from(
    [
        *"\\`*_{}[]()#+-.!|~$^<>&:=@/\"'%;,0123456789\t\n ",
        "\n\n",
        "    ",
        "www.",
        "://",
        "http",
        "https://a.example",
        "a@b.example",
        "&#58;",
        "&lt;",
        "<b>",
        "<!--",
        "```",
        "~~~",
        "- [ ]",
        "[^1]:",
        "]: ",
        "](",
        "x",
        "ü",
        "日",
        "\u200b",
        "\xa0",
        "\x1b",
    ]
)


@pytest.mark.parametrize("report", [an_answer, failures, plain, inline])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(MARKS, max_size=12).map("".join).filter(str.strip))
def test_whatever_is_said(report: Callable[[str], str], said: str) -> None:
    check(report, said)
