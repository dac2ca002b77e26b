"""Read which objects a notification of an S3 server names, and believe nothing else in it.

    body ──▶ JSON, or a line of JSON for each event ──▶ envelopes (SNS, SQS, CloudEvents, lists) ──▶ records ──▶ names

A notification is a hint. The caller asks the bucket for each name, and plans from the answer. The kind of an event, its
ETag and its order therefore stay unread. A repeated, late or forged notification costs a request, and changes nothing.

`tests/unit/watch/samples/README.txt` names the document or the source that each shape was taken from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import unquote_plus

from tasks.errors import LockstepError
from tasks.sanitize import one_line

MAX_BODY_BYTES = 1 << 20
"""The most that SQS carries. Other servers send one event of a few kilobytes."""
MAX_KEY_BYTES = 1024
MAX_BUCKET_BYTES = 255
MAX_URL_CHARS = 2048
MAX_PARTS = 20_000
"""A server's record has hundreds of bytes, so the largest body holds fewer. Reading more would take seconds."""
MAX_DEPTH = 8
"""Envelopes and lists within each other. A record in SNS in SQS needs four."""
MAX_REASONS = 5

ENCODERS = frozenset({"aws:s3", "minio:s3", "rustfs:s3"})
"""Each ``eventSource`` whose server URL-encodes the keys in its records. Ceph RGW (``ceph:s3``) does not."""
VERSITYGW = "-global"
"""The end of versitygw's ``configurationId``. It says ``aws:s3`` too, and does not encode."""

BUCKETS = "/buckets/"
UPLOADS = ".uploads"
VERSIONS = ".versions"
"""Where SeaweedFS keeps buckets, parts of an upload within a bucket, and (as ``KEY.versions/``) versions of a key."""

JsonObject = dict[str, Any]


class NotificationError(LockstepError):
    """A body is not a notification, or no part of it can be read."""


@dataclass(frozen=True, slots=True)
class ObjectName:
    """An object that changed, or may have. Only the bucket knows."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class Mentions:
    """What a body mentions.

    ``relist`` has the buckets of which so much changed that only a listing tells what. ``confirmations`` has the
    addresses by which a person confirms an SNS subscription: show them, and never fetch one. ``unreadable`` counts
    the parts that were left out, and ``reasons`` says why, up to five times.
    """

    objects: frozenset[ObjectName] = frozenset()
    relist: frozenset[str] = frozenset()
    confirmations: tuple[str, ...] = ()
    unreadable: int = 0
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Relist:
    bucket: str


@dataclass(frozen=True, slots=True)
class _Confirmation:
    url: str


@dataclass(frozen=True, slots=True)
class _Oddity:
    """A part that cannot be read. It must not cost the readable parts beside it."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Silence:
    """A part that is understood and mentions nothing, such as a test event."""


_Part = ObjectName | _Relist | _Confirmation | _Silence | _Oddity


@dataclass(frozen=True, slots=True)
class _Shape:
    """One way to say what changed: how to recognise it, and what it mentions at a depth of envelopes."""

    name: str
    fits: Callable[[JsonObject], bool]
    read: Callable[[JsonObject, int], Iterator[_Part]]


def read_notification(body: bytes) -> Mentions:
    """Return what a notification mentions, or several in a list or in lines.

    Raises ``NotificationError`` if the body is too large, is no JSON, or has not one readable part.
    """
    if len(body) > MAX_BODY_BYTES:
        raise NotificationError(
            f"The notification has {len(body):,} bytes, and Lockstep reads {MAX_BODY_BYTES:,}. "
            "Let the server send fewer events in one message."
        )
    stream = (part for document in _documents(body) for part in _parts(document, 0))
    parts = list(islice(stream, MAX_PARTS + 1))
    if len(parts) > MAX_PARTS:
        raise NotificationError(f"The notification has more than {MAX_PARTS:,} parts. No server sends so many.")
    oddities = [part.reason for part in parts if isinstance(part, _Oddity)]
    reasons = tuple(dict.fromkeys(oddities))[:MAX_REASONS]
    if oddities and len(oddities) == len(parts):
        raise NotificationError(
            f"The notification cannot be read: {'; '.join(reasons)}. "
            f"Lockstep understands {', '.join(dict.fromkeys(shape.name for shape in SHAPES))}."
        )
    return Mentions(
        objects=frozenset(part for part in parts if isinstance(part, ObjectName)),
        relist=frozenset(part.bucket for part in parts if isinstance(part, _Relist)),
        confirmations=tuple(dict.fromkeys(part.url for part in parts if isinstance(part, _Confirmation))),
        unreadable=len(oddities),
        reasons=reasons,
    )


def _documents(body: bytes) -> Iterator[Any]:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotificationError(
            f"The notification is not UTF-8 text ({error.reason} at byte {error.start})."
        ) from error
    document = _json(text)
    # Not str.splitlines(): a key may hold U+2028 as it is.
    lines = [line for line in text.split("\n") if line.strip()]
    yield from map(_json, lines) if isinstance(document, _Oddity) and len(lines) > 1 else [document]


def _json(text: str) -> Any:
    """Return what a JSON text says, or the oddity that it is."""
    try:
        # Nobody reads a number here. As an int, one of 5,000 digits would be an error, and lose the whole batch.
        return json.loads(text, parse_int=float)
    except RecursionError:
        return _Oddity("JSON that is nested too deep")
    except ValueError as error:
        return _Oddity(f"not JSON ({error})")


def _parts(value: Any, depth: int) -> Iterator[_Part]:
    """Yield at least one part for each value, so that the limit on parts also limits the work."""
    silent = True
    for part in _read(value, depth):
        silent = False
        yield part
    if silent:
        yield _Silence()


def _read(value: Any, depth: int) -> Iterator[_Part]:
    if isinstance(value, _Oddity):
        yield value
    elif depth > MAX_DEPTH:
        yield _Oddity(f"more than {MAX_DEPTH} envelopes within each other")
    elif isinstance(value, list):
        for item in value:
            yield from _parts(item, depth + 1)
    elif isinstance(value, dict):
        shape = next((shape for shape in SHAPES if shape.fits(value)), None)
        yield from shape.read(value, depth) if shape else [_Oddity(_unknown(value))]
    else:
        yield _Oddity("a JSON value that is no object and no list")


def _unknown(value: JsonObject) -> str:
    fields = ", ".join(f"'{one_line(name)[:40]}'" for name in list(value)[:5])
    return f"an object of no known shape (it has the fields {fields})" if fields else "an empty object"


def _at(value: Any, *path: str) -> Any:
    """Return the value at a path of field names, or None."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _within(name: str) -> Callable[[JsonObject, int], Iterator[_Part]]:
    """Return a reader of an envelope. A field of this name has its content, as JSON or as a text of JSON."""

    def read(envelope: JsonObject, depth: int) -> Iterator[_Part]:
        content = envelope[name]
        yield from _parts(_json(content) if isinstance(content, str) else content, depth + 1)

    return read


# --- Names -----------------------------------------------------------------------------------------------------------


def _flaw(name: Any, what: str, max_bytes: int) -> str:
    """Return why no bucket or object can have a name, or ''."""
    if not isinstance(name, str) or not name:
        return f"a record without the name of its {what}"
    if "\0" in name:
        return f"the name of its {what} has a NUL character"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        return f"the name of its {what} is not Unicode text"
    return f"the name of its {what} has {size:,} bytes, and S3 allows {max_bytes:,}" if size > max_bytes else ""


def _objects(bucket: Any, keys: Sequence[Any]) -> Iterator[_Part]:
    """Yield an object for each key that can be one, or an oddity if none can."""
    bucket_flaw = _flaw(bucket, "bucket", MAX_BUCKET_BYTES)
    key_flaws = [_flaw(key, "object", MAX_KEY_BYTES) for key in keys]
    if bucket_flaw or all(key_flaws):
        yield _Oddity(bucket_flaw or key_flaws[0])
    else:
        yield from (ObjectName(bucket, key) for key, flaw in zip(keys, key_flaws, strict=True) if not flaw)


def _keys(key: Any, encoder: bool) -> list[Any]:
    """Return the keys that a record may mean. ``encoder`` says that its server is known to URL-encode them.

    Where a record leaves it open, both readings are named. The bucket has no object of the wrong name, and Lockstep
    knows of none: it costs a request.
    """
    if not isinstance(key, str):
        return [key]
    try:
        plain = unquote_plus(key, errors="strict")
    except UnicodeDecodeError:  # not encoded: keys are UTF-8
        return [key]
    # An encoder leaves no space, and no letter outside of ASCII.
    return [plain] if encoder and key.isascii() and " " not in key else list(dict.fromkeys((plain, key)))


# --- AWS, and the servers that send the same records -----------------------------------------------------------------


def _record(record: JsonObject, _depth: int) -> Iterator[_Part]:
    # Amazon raises the minor version when it adds fields, and the major one when it changes them.
    if str(record.get("eventVersion", "2")).partition(".")[0] != "2":
        yield _Oddity("a record whose eventVersion is not 2.x")
        return
    configuration = _at(record, "s3", "configurationId")
    versitygw = isinstance(configuration, str) and configuration.endswith(VERSITYGW)
    encoder = str(record.get("eventSource")) in ENCODERS and not versitygw
    yield from _objects(_at(record, "s3", "bucket", "name"), _keys(_at(record, "s3", "object", "key"), encoder))


def _test_event(_event: JsonObject, _depth: int) -> Iterator[_Part]:
    yield _Silence()


def _eventbridge(event: JsonObject, _depth: int) -> Iterator[_Part]:
    # EventBridge does not encode keys: a '+' or a '%' is one.
    detail = event["detail"]
    yield from _objects(_at(detail, "bucket", "name"), [_at(detail, "object", "key")])


def _detail(detail: JsonObject, _depth: int) -> Iterator[_Part]:
    # A target of EventBridge may be told to send the detail alone. Nothing in it says whose it is.
    yield from _objects(_at(detail, "bucket", "name"), _keys(_at(detail, "object", "key"), encoder=False))


def _sns(message: JsonObject, depth: int) -> Iterator[_Part]:
    match message["Type"]:
        case "Notification":
            yield from _parts(_json(message["Message"]), depth + 1)
        case "SubscriptionConfirmation":
            yield _confirmation(message.get("SubscribeURL"))
        case "UnsubscribeConfirmation":
            yield _Silence()
        case _:
            yield _Oddity("an SNS message of an unknown type")


def _confirmation(url: Any) -> _Part:
    # It is shown to a person: it must not imitate another line, nor hide a part of itself.
    plain = isinstance(url, str) and url.isascii() and url.isprintable() and " " not in url
    if plain and len(url) <= MAX_URL_CHARS and url.startswith(("https://", "http://")):
        return _Confirmation(url)
    return _Oddity("an SNS confirmation without a usable SubscribeURL")


# --- SeaweedFS -------------------------------------------------------------------------------------------------------


def _seaweedfs(event: JsonObject, _depth: int) -> Iterator[_Part]:
    """Yield what an event of the filer mentions. It tells of paths, not of objects, and never encodes them."""
    message = event["message"]
    old, new = message.get("old_entry"), message.get("new_entry")
    paths = {event["key"]: None}
    parent, name = message.get("new_parent_path"), _at(new, "name")
    if isinstance(parent, str) and parent and isinstance(name, str) and name:
        # Some versions call an update a rename, and others a rename an update: the paths tell.
        paths[f"{parent.rstrip('/')}/{name}"] = None
    folder = any(_at(entry, "is_directory") is True for entry in (old, new))
    for path in paths:
        bucket, slash, key = path.removeprefix(BUCKETS).partition("/")
        if not path.startswith(BUCKETS) or key == UPLOADS or key.startswith(UPLOADS + "/"):
            continue  # the filer's own files, and parts of an upload: its last event names the object
        elif folder:
            yield from _seaweedfs_folder(bucket, key, deletion=new is None, move=len(paths) > 1)
        elif slash:
            yield from _seaweedfs_file(bucket, key)


def _seaweedfs_file(bucket: str, key: str) -> Iterator[_Part]:
    parent = key.rpartition("/")[0]
    # In a bucket that keeps versions, the file may hold a version of an object. Or it is an object itself.
    owner = [parent.removesuffix(VERSIONS)] if parent.endswith(VERSIONS) else []
    yield from _objects(bucket, [key, *owner])


def _seaweedfs_folder(bucket: str, key: str, deletion: bool, move: bool) -> Iterator[_Part]:
    """Yield what an event of a folder mentions: mostly nothing, because each file in it has an event of its own.

    SeaweedFS also deletes each folder that has become empty, so a deletion must not cost a listing. A deleted bucket
    may: some stores drop it whole, without a word of its files. So may a folder that was moved. It has as many events
    as files, and SeaweedFS forgets those that its buffer of 10,000 does not hold.
    """
    if key.endswith(VERSIONS):
        yield from _objects(bucket, [key.removesuffix(VERSIONS)])  # the folder says which version is the latest
    if (move or (deletion and not key)) and not _flaw(bucket, "bucket", MAX_BUCKET_BYTES):
        yield _Relist(bucket)


# --- All shapes ------------------------------------------------------------------------------------------------------


def _has(**fields: type) -> Callable[[JsonObject], bool]:
    return lambda value: all(isinstance(value.get(name), kind) for name, kind in fields.items())


def _is(name: str, text: str) -> Callable[[JsonObject], bool]:
    return lambda value: value.get(name) == text


SHAPES = (
    # AWS, MinIO, Ceph RGW, RustFS and versitygw. MinIO's EventName and Key, beside the records, say the same again.
    _Shape("S3 notifications ('Records')", _has(Records=list), _within("Records")),
    _Shape("S3 records ('s3')", _has(s3=dict), _record),
    _Shape("S3 test events", _is("Event", "s3:TestEvent"), _test_event),
    # The format `access` of MinIO's Redis target. In its format `namespace`, a value of the hash has 'Records'.
    _Shape("entries of MinIO's Redis list ('Event')", _has(Event=list), _within("Event")),
    _Shape("EventBridge events", _has(**{"detail-type": str, "detail": dict}), _eventbridge),
    _Shape("details of EventBridge events", _has(bucket=dict, object=dict), _detail),
    _Shape("SNS notifications", _has(Type=str, Message=str), _sns),
    # As Lambda and EventBridge Pipes spell a message, and as ReceiveMessage does.
    _Shape("SQS messages", _has(messageId=str, body=str), _within("body")),
    _Shape("SQS messages", _has(MessageId=str, Body=str), _within("Body")),
    # A CloudEvent in binary mode, as Ceph RGW sends it, is its headers: the body has 'Records'.
    _Shape("CloudEvents", lambda value: "specversion" in value and "data" in value, _within("data")),
    _Shape("events of SeaweedFS' filer", _has(key=str, event_type=str, message=dict), _seaweedfs),
)
