"""What is shown of a text: no passwords, nothing that a terminal obeys."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.chat_model import ChatModel
from blocks.ledger import Ledger
from blocks.milvus_store import MilvusStore
from blocks.s3_source import S3Source
from tasks.errors import GateError, InconsistentError, LockstepError, PartError
from tasks.sanitize import escaped_json, hidden, keep_secrets, one_line, unlinked, visible

SECRET = "geheim-7"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"http://root:{SECRET}@milvus:19530", "http://root:***@milvus:19530"),
        (f"postgresql+psycopg://u:{SECRET}@h/db refused", "postgresql+psycopg://u:***@h/db refused"),
        (f"postgresql://u:{SECRET}/with#odd?signs@h/db", "postgresql://u:***@h/db"),
        (f"postgresql://u:{SECRET}@{SECRET}@h/db", "postgresql://u:***@h/db"),
        (f"http://u:'\"{SECRET}@h", "http://u:***@h"),
        (f"https://{SECRET}@host/v1", "https://***@host/v1"),
        (f"http://:{SECRET}@h:1/x", "http://:***@h:1/x"),
        (f"http://u:{SECRET}@[::1]:9000/", "http://u:***@[::1]:9000/"),
        (f"no server on root:{SECRET}@milvus:19530, gave up", "no server on root:***@milvus:19530, gave up"),
        (f"postgresql://h/db?user=u&password={SECRET}&x=1", "postgresql://h/db?user=u&password=***&x=1"),
        (f"postgresql://h/db?sslpassword={SECRET}", "postgresql://h/db?sslpassword=***"),
        (f"http://h/?access_token={SECRET}&pwd={SECRET}&key={SECRET}", "http://h/?access_token=***&pwd=***&key=***"),
        (f"http://h/?X-Amz-Signature={SECRET}&a=b", "http://h/?X-Amz-Signature=***&a=b"),
        (f"url=http%3A%2F%2Fh%3Fpassword%3D{SECRET}", "url=http%3A%2F%2Fh%3Fpassword%3D***"),
        (f"url=http%3A%2F%2Fu%3A{SECRET}%40h", "url=http%3A%2F%2Fu%3A***%40h"),
        (f"host=h password='two {SECRET}' user=u", "host=h password=*** user=u"),
        (f"host=h password = {SECRET} user=u", "host=h password = *** user=u"),
        (f"PGPASSWORD={SECRET} VLLM_API_KEY='{SECRET}'", "PGPASSWORD=*** VLLM_API_KEY=***"),
        (f"password='{SECRET}", "password=***"),
        (f"password: {SECRET}", "password: ***"),
        (f"user: u, Password:'two {SECRET}', host: h", "user: u, Password:***, host: h"),
        (f"PREFECT_API_AUTH_STRING=lockstep:{SECRET}", "PREFECT_API_AUTH_STRING=***"),
        (f"export PREFECT_SERVER_API_AUTH_STRING='lockstep:{SECRET}'", "export PREFECT_SERVER_API_AUTH_STRING=***"),
        (f"{{'auth_string': 'lockstep:{SECRET}'}}", "{'auth_string': ***}"),
        (f"see http://127.0.0.1:4200/lockstep/open#{SECRET}== now", "see http://127.0.0.1:4200/lockstep/open#*** now"),
        (f"{{\"password\": \"{SECRET}\", 'token': b'{SECRET}'}}", "{\"password\": ***, 'token': b***}"),
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer ***"),
        (f"{{'authorization': 'Basic {SECRET}'}}", "{'authorization': 'Basic ***'}"),
    ],
)
def test_passwords_are_hidden_in_every_form(text: str, expected: str) -> None:
    assert hidden(text) == expected
    assert hidden(expected) == expected


def test_the_secrets_of_a_block_are_hidden_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.sanitize._kept", set())
    keys = AwsCredentials(aws_secret_access_key=SecretStr("wJal/rXUtnFEMI+K7"), aws_session_token="IQoJb3JpZ2luX2VjE9")
    keep_secrets(S3Source(bucket="documents", credentials=keys))
    keep_secrets(ChatModel(base_url="http://h/v1", api_key=SecretStr("sk-geheim-7xq9")))
    keep_secrets(ChatModel(base_url="http://h/v1", api_key=SecretStr("sk-geheim-7xq9-and-more")))
    keep_secrets(MilvusStore(uri="http://h", token=SecretStr("password")))
    keep_secrets(MilvusStore(uri="http://h", token=SecretStr("root:Milvus-123")))
    keep_secrets(Ledger(url=SecretStr("sqlite:////var/lib/ledger1.db")))
    keys_shown = "sk-geheim-7xq9 sk-geheim-7xq9-and-more Milvus-123"
    said = f"no: wJal/rXUtnFEMI+K7, (IQoJb3JpZ2luX2VjE9) {keys_shown}? The password of sqlite:////var/lib/ledger1.db"
    assert hidden(said) == "no: ***, (***) *** *** ***? The password of sqlite:////var/lib/ledger1.db"


@pytest.mark.parametrize(
    "text",
    [
        "http://host:9000/documents/a@b.md", "postgresql://lockstep@h/db", "sqlite:////var/lib/ledger.db", "s3://b/a:b@c.md",
        "LOCKSTEP_MAX_ANSWER_TOKENS=5 and max_tokens=7", "Check AWS_SECRET_ACCESS_KEY and the bucket's policy.",
        "Check VLLM_API_KEY: it is refused.", "password authentication failed for user \"u\"", "a@b.c wrote to d:e",
        "the key 'x=1&y.md' is not indexed", "http://127.0.0.1:4200/api",
    ],
)  # fmt: skip
def test_what_is_no_password_stays(text: str) -> None:
    assert hidden(text) == text


PIECES = st.sampled_from(
    ["//", "a:", "@", "password", "token", "=", "'", '"', "%3D", "%3A%2F%2F", "?", "key=", " ", "\\", ": ", "***", "http://",
     "authorization", "auth_string", "/lockstep/open#", "Bearer ", "h:1", "\n", "x"]
)  # fmt: skip


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(PIECES, max_size=14).map("".join))
def test_what_is_hidden_stays_hidden(text: str) -> None:
    assert hidden(hidden(text)) == hidden(text)


@pytest.mark.parametrize(
    "odd",
    [
        "//a:x",
        "//a:",
        "password='",
        "password='\\",
        "a:a@",
        "a:",
        "'token':'",
        "password:",
        "password: '",
        "auth_string=",
        "/lockstep/open#",
        "http://a:b/",
        "@",
        "%3A%2F%2Fa",
    ],
)
def test_hiding_takes_time_in_proportion(odd: str) -> None:
    """100,000 characters of what almost is a password: seconds would be minutes if it were quadratic."""
    assert hidden(odd * (100_000 // len(odd)))


def test_every_error_hides_what_it_was_made_of() -> None:
    made_of = f"Milvus: http://root:{SECRET}@milvus does not answer\x1b]52;c;eA==\x1b\\"
    found = object()
    for error in (
        LockstepError(made_of),
        PartError(made_of),
        InconsistentError(made_of, found),
        GateError(made_of, found),
    ):
        for shown in (str(error), repr(error), "".join(map(str, error.args))):
            assert SECRET not in shown
            assert "\x1b" not in shown
        assert "http://root:***@milvus" in str(error)
    assert InconsistentError(made_of, found).found is found


TERMINAL = "a\x1b]52;c;eA==\x1b\\b\x1b[31mc\x9b2Jd\x07\u202ee\u2066\u200ff\x7f\x08"


def test_what_a_terminal_obeys_is_left_out() -> None:
    assert visible(TERMINAL) == "a]52;c;eA==\\b[31mc2Jdef"
    assert visible("a\r\nb\rc\u2028d\x85e\tf\ng") == "a\nb\nc\nd\ne\tf\ng"
    assert one_line("a.md\r\nlockstep: all is well\t!") == "a.md lockstep: all is well !"
    assert visible("👩\u200d💻 größe 日本語 किताब") == "👩\u200d💻 größe 日本語 किताब"


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(st.characters(categories=["Cc", "Cf", "Zl", "Zp", "Cs", "Lu"])))
def test_whatever_the_text_nothing_in_it_is_obeyed(text: str) -> None:
    shown = visible(text)
    assert {one for one in shown if unicodedata.category(one) in ("Cc", "Zl", "Zp", "Cs")} <= {"\n", "\t"}
    assert not {
        one
        for one in shown
        if unicodedata.bidirectional(one) in {"RLE", "LRE", "RLO", "LRO", "RLI", "LRI", "FSI", "PDF", "PDI"}
    }
    assert visible(shown) == shown
    written = escaped_json(json.dumps(text, ensure_ascii=False))
    assert json.loads(written) == json.loads(json.dumps(text))
    assert visible(written) == written
    assert written.encode()


def test_an_address_is_no_link_and_looks_as_before() -> None:
    text = "https://a.example www.b.example c@d.example mailto:e@f.example"
    assert unlinked(text).replace("\u200b", "") == text
    assert "://" not in unlinked(text)
    assert "www." not in unlinked(text)
    assert "c@" not in unlinked(text)
