"""Mail as programs, lists and attackers write it: read as text, or refused with a reason; attachments never read."""

from __future__ import annotations

from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

import pytest

from tasks.documents.parse import parse
from tasks.errors import PermanentError
from tasks.models import Element

Mail = Callable[[bytes | EmailMessage], list[tuple[tuple[str, ...], str]]]
HEAD = b"From: a@example.org\nSubject: Outer\nMIME-Version: 1.0\n"


@pytest.fixture
def mail(tmp_path: Path) -> Mail:
    """Return what is read from a message: headings and text of each element."""

    def read(message: bytes | EmailMessage) -> list[tuple[tuple[str, ...], str]]:
        path = tmp_path / "a.eml"
        path.write_bytes(message if isinstance(message, bytes) else message.as_bytes())
        found: list[Element] = parse(path, "a.eml")
        return [(one.headings, one.text) for one in found]

    return read


def written(subject: str, text: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["Subject"] = "a@example.org", subject
    message.set_content(text)
    return message


def parts(*bodies: bytes, kind: bytes = b"mixed", boundary: bytes = b"=b=", head: bytes = HEAD) -> bytes:
    joined = b"".join(b"--" + boundary + b"\n" + body + b"\n" for body in bodies)
    content = b"Content-Type: multipart/" + kind + b'; boundary="' + boundary + b'"\n\n'
    return head + content + joined + b"--" + boundary + b"--\n"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("audio/wav", "call.wav"),
        ("audio/mpeg", "call.mp3"),
        ("image/png", "scan.png"),
        ("video/mp4", "clip.mp4"),
        ("application/pdf", "report.pdf"),
        ("application/octet-stream", "call.wav"),
        ("application/ms-tnef", "winmail.dat"),
        ("application/pkcs7-signature", "smime.p7s"),
        ("text/plain", "notes.txt"),
        ("text/calendar", "invite.ics"),
        ("application/zip", "all.zip"),
    ],
)
def test_an_attachment_is_never_read(mail: Mail, kind: str, name: str) -> None:
    message = written("Outer", "The call is attached.")
    maintype, subtype = kind.split("/")
    data = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0" if name.endswith("wav") else b"SECRET WORDS OF AN ATTACHMENT"
    message.add_attachment(data, maintype=maintype, subtype=subtype, filename=name)
    assert mail(message) == [(("Outer",), "The call is attached.")]


@pytest.mark.parametrize("kind", [b"audio/wav", b"image/png", b"text/calendar", b"application/pkcs7-mime"])
def test_a_message_that_is_no_text_is_its_subject(mail: Mail, kind: bytes) -> None:
    assert mail(HEAD + b"Content-Type: " + kind + b"\nContent-Transfer-Encoding: base64\n\nUklGRg==\n") == [
        ((), "Outer")
    ]


def test_a_digest_is_read_message_by_message(mail: Mail) -> None:
    digest = parts(
        b"\nSubject: First\n\nThe pump is serviced yearly.\n",
        b"\nSubject: Second\nMIME-Version: 1.0\nContent-Type: text/html\n\n<p>The filter is replaced.</p>\n",
        b"\n\nA third has no subject at all.\n",
        kind=b"digest",
    )
    assert mail(digest) == [
        ((), "Outer"),
        (("Outer", "First"), "The pump is serviced yearly."),
        (("Outer", "Second"), "The filter is replaced."),
        (("Outer",), "A third has no subject at all."),
    ]


def test_a_digest_of_a_mailing_list_has_its_introduction(mail: Mail) -> None:
    inner = parts(b"\nSubject: Re: pumps\n\nThe seal leaks again.\n", kind=b"digest", boundary=b"in", head=b"")
    assert mail(parts(b"Content-Type: text/plain\n\nToday's topics are pumps.\n", inner)) == [
        (("Outer",), "Today's topics are pumps."),
        (("Outer", "Re: pumps"), "The seal leaks again."),
    ]


def test_a_forwarded_message_is_read_unless_it_is_an_attachment(mail: Mail) -> None:
    forwarded = b"Content-Type: message/rfc822\n%s\nSubject: Inner\n\nThe words that were sent first.\n"
    text = b"Content-Type: text/plain\n\nSee below, please.\n"
    assert mail(parts(text, forwarded % b"")) == [
        (("Outer",), "See below, please."),
        (("Outer", "Inner"), "The words that were sent first."),
    ]
    assert mail(parts(text, forwarded % b"Content-Disposition: attachment\n")) == [(("Outer",), "See below, please.")]


def test_messages_within_messages_are_read_to_a_depth_and_refused_beyond(mail: Mail) -> None:
    inside = b"Subject: Innermost\n\nThe words at the bottom.\n"
    for _ in range(5):
        inside = b"Subject: Forwarded\nContent-Type: message/rfc822\n\n" + inside
    assert mail(inside)[-1] == ((*["Forwarded"] * 5, "Innermost"), "The words at the bottom.")
    for _ in range(1000):
        inside = b"Content-Type: message/rfc822\n\n" + inside
    with pytest.raises(PermanentError, match="nested too deeply"):
        mail(inside)


def test_parts_within_parts_a_thousand_deep_are_refused(mail: Mail) -> None:
    deep = b"".join(b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(1000))
    with pytest.raises(PermanentError, match="nested too deeply"):
        mail(HEAD + deep + b"\nText.\n")


@pytest.mark.parametrize("charset", [b"x-unknown", b"utf-8\xff", b"", b"rot13", b"hex", b"base64"])
def test_an_encoding_that_there_is_not_is_found_out(mail: Mail, charset: bytes) -> None:
    message = HEAD + b"Content-Type: text/plain; charset=" + charset + b"\n\nThe pump is serviced yearly.\n"
    assert mail(message) == [(("Outer",), "The pump is serviced yearly.")]


@pytest.mark.parametrize("content", [b"multipart/mixed", b"multipart/alternative; boundary=other", b"multipart/digest"])
def test_parts_without_their_boundary_are_text(mail: Mail, content: bytes) -> None:
    found = mail(HEAD + b"Content-Type: " + content + b"\n\nThe pump is serviced yearly.\n")
    assert found == [(("Outer",), "The pump is serviced yearly.")]


@pytest.mark.parametrize(
    "odd",
    [
        b"Content-Type: \n",
        b"Content-Type: text\n",
        b"Content-Type: text/plain; charset*0*=x'%ff; charset*1=\n",
        b"Content-Transfer-Encoding: x-uuencode\n",
        b"Content-Transfer-Encoding: none\n",
        b"Content-Disposition: \n",
        b"Content-Disposition: ;;;filename*=\n",
        b"X-Long: " + b"a" * 300_000 + b"\n",
        b"X-Many: 1\n" * 20_000,
        b"To: " + b"a@b.example, " * 20_000 + b"\n",
        b"Date: nonsense\nMessage-ID: <<<>>>\nFrom: \n",
        b"Gr\xfc\xdfe: \xfc\n",
        b"Subject: \xff\xfe\xfd\n",
        b"Subject: =?utf-8?B?####?= =?nope?Q?x?=\n",
        b"Subject: " + b"=?utf-8?Q?a?= " * 2_000 + b"\n",
        b"no header at all\n",
    ],
    ids=range(16),
)
def test_an_odd_header_costs_neither_the_text_nor_the_process(mail: Mail, odd: bytes) -> None:
    found = mail(b"MIME-Version: 1.0\n" + odd + b"\nThe pump is serviced yearly.\n")
    assert any("serviced" in text for _, text in found)
