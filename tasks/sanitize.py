"""Make a text safe to show: without passwords, without terminal control characters, without links.

    hidden("http://root:geheim@milvus")   "http://root:***@milvus"
    visible("a\\x1b[2J")                   "a[2J"
    unlinked("see www.a.example")         looks the same; an invisible break keeps renderers from making a link

The time of each pattern is linear in the length of the text, whatever the text holds.
"""

from __future__ import annotations

import re

_STARS = "***"
_NAME = (
    r"(?:password|passwd|passphrase|pwd|secret|token|credential|signature|auth[_-]?string|api[_-]?key|secret[_-]?key|"
    r"access[_-]?key(?:[_-]?id)?)"
)
_QUOTED = r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\""
_SECRETS = (
    # The password of an address. A slash in it is allowed, unless a port comes before the slash:
    # http://host:9000/folder/a@b has no password.
    re.compile(r"(?<=//)([^\s/?#@:]*:)(?:[^\s/?#]*|(?!\d{1,5}[/?#])\S{0,200})(?=@)"),
    # A server's address with a user but no password: the user is a token.
    re.compile(r"(?i)((?<=http://)|(?<=https://)|(?<=tcp://))[^\s/?#@:]+(?=@)"),
    # A percent-encoded address inside another one.
    re.compile(r"(?i)(%3A%2F%2F[^\s/%@]{0,64}%3A)[^\s/&@]{1,256}?(?=%40)"),
    # An address without a scheme: root:geheim@milvus:19530.
    re.compile(r"(?<![\w.%+~/-])([\w.%+~-]{1,64}:)(?!//)[^\s@]{1,256}(?=@[\w.-]{1,255}:\d)"),
    # password=geheim, in a query (encoded or not), a connection string, a setting.
    re.compile(rf"(?i)({_NAME}[ \t]{{0,4}}(?:=|%3D)[ \t]{{0,4}})(?:(?:{_QUOTED})[^\s&;,()<>]*|[^\s&;,()<>]+)"),
    re.compile(r"(?i)([?&](?:pass|key|auth|sig|code|jwt|sas)=)[^\s&'\"<>]+"),
    # password: geheim. The other names also come before a colon in sentences: "Check VLLM_API_KEY: it is refused."
    re.compile(
        rf"(?i)((?:password|passwd|passphrase)[ \t]{{0,4}}:[ \t]{{0,4}})(?:(?:{_QUOTED})[^\s&;,()<>]*|[^\s&;,()<>]+)"
    ),
    # The link that opens the embedded Prefect.
    re.compile(r"(/lockstep/open#)[^\s'\"<>]+"),
    # {"password": "geheim"}, and the header of a request.
    re.compile(rf"(?i)({_NAME}['\"]\s{{0,4}}:\s{{0,4}}b?)(?:{_QUOTED})"),
    re.compile(r"(?i)(authorization['\"]?\s{0,4}[:=]\s{0,4}(?:b?['\"])?(?:(?:bearer|basic)\s{1,4})?)[^\s'\",]+"),
)
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_OBEYED = re.compile(
    # Control characters (C0, DEL, C1), marks that change the direction of writing, and halves of surrogate pairs.
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORTEST = 8
_kept: set[str] = set()
_BREAK = "\u200b"
"""A zero-width space, put into an address so that it does not become a link."""
_ADDRESS = re.compile(r"(?i)(?<=:)(?=//)|(?<=www)(?=\.)|(?=@[\\\w-]+\.)")


def keep_secrets(of: object) -> None:
    """Hide the secrets of a block, and of the blocks within it, in all texts from now on.

    A server may repeat the key that it refuses. A secret shorter than 8 characters, or of letters only, may be a word
    of a message. An address is shown without its password. The patterns hide these two by the text around them.
    """
    for name, value in vars(of).items():
        if hasattr(type(value), "model_fields"):
            keep_secrets(value)
        elif hasattr(value, "get_secret_value") or (isinstance(value, str) and name.endswith("token")):
            secret = str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)
            parts = () if "://" in secret else (secret, secret.partition(":")[2])  # user:password is both
            _kept.update(one for one in parts if len(one) >= _SHORTEST and not one.isalpha())


def hidden(text: str) -> str:
    """Return a text without known secrets, and without passwords in its addresses, settings and headers. Idempotent."""
    for secret in sorted(_kept, key=len, reverse=True):  # one secret may be part of another
        text = text.replace(secret, _STARS)
    for pattern in _SECRETS:
        text = pattern.sub(rf"\g<1>{_STARS}", text)
    return text


def visible(text: str) -> str:
    """Return a text without terminal control characters, and with every line ending as a newline."""
    return _OBEYED.sub("", _LINE_ENDS.sub("\n", text))


def one_line(text: str) -> str:
    """Return a text in one line without terminal control characters, so that no key can imitate a line of ours."""
    return visible(text).replace("\n", " ").replace("\t", " ")


def unlinked(text: str) -> str:
    """Return a text that looks the same, but whose addresses do not become links."""
    return _ADDRESS.sub(_BREAK, text)


def inert(text: str) -> str:
    """Return foreign text in the form that is logged: in one line, and without links for a log viewer to make."""
    return unlinked(one_line(text))


def escaped_json(text: str) -> str:
    """Return equal JSON with every terminal control character escaped."""
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
