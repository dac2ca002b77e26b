"""Which objects a notification names: in each maker's shape, in batches, beside nonsense, and for any bytes at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.watch.notifications import (
    MAX_BODY_BYTES,
    MAX_KEY_BYTES,
    MAX_PARTS,
    Mentions,
    NotificationError,
    ObjectName,
    read_notification,
)

SAMPLES = Path(__file__).parent / "samples"


def names(*keys: str, bucket: str = "docs") -> Mentions:
    return Mentions(objects=frozenset(ObjectName(bucket, key) for key in keys))


CONFIRMATION = (
    "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription"
    "&TopicArn=arn:aws:sns:eu-central-1:111122223333:docs-events&Token=2336412f37example"
)
NOTHING = Mentions()
EXPECTED = {
    "aws-records.json": names("guides/red flower + 50%.md", "guides/übersicht.md"),
    "aws-test-event.json": NOTHING,
    "sns-notification.json": names("guides/red flower + 50%.md"),
    "sns-test-event.json": NOTHING,
    "sns-confirmation.json": Mentions(confirmations=(CONFIRMATION,)),
    "sns-unsubscription.json": NOTHING,
    "sqs-messages.json": names("guides/red flower + 50%.md"),
    "eventbridge-created.json": names("guides/100%25 a+b ü.md"),
    "eventbridge-deleted.json": names("guides/old.md"),
    "eventbridge-detail.json": names("guides/new plan.md"),
    "eventbridge-in-sqs.json": names("guides/100%25 a+b ü.md"),
    "minio-webhook.json": names("guides/a b+c.md"),
    "minio-redis-access.json": names("guides/a b+c.md"),
    "minio-redis-namespace.json": names("guides/a b+c.md"),
    # Two servers do not encode the '+' of a key. They may one day, so both readings are named.
    "ceph-records.json": names("guides/ü 1.md", "guides/a+b.md", "guides/a b.md"),
    "versitygw-webhook.json": names("guides/a+b.md", "guides/a b.md"),
    "versitygw-test-event.json": NOTHING,
    "cloudevent.json": names("guides/plan.md"),
    "cloudevents-batch.json": names("guides/plan.md", "guides/b.md"),
    "rustfs-webhook.json": names("guides/a b.md"),
    "seaweedfs-recorded.jsonl": names("a b/ü+1.txt", "c.txt", bucket="documents"),
    "seaweedfs-delete.json": names("guides/50%25 a+b.md"),
    "seaweedfs-rename.json": names("guides/old.md", "archive/new.md"),
    "seaweedfs-empty-folder.json": NOTHING,
    "seaweedfs-folder-rename.json": Mentions(relist=frozenset({"docs"})),
    "seaweedfs-bucket-deletion.json": Mentions(relist=frozenset({"docs"})),
    "seaweedfs-upload-part.json": NOTHING,
    "seaweedfs-version.json": names("guides/plan.md", "guides/plan.md.versions/v_6a1b2c"),
    "seaweedfs-latest-version.json": names("guides/plan.md"),
    "seaweedfs-outside.json": NOTHING,
}


def sample(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text())


def read(value: Any) -> Mentions:
    return read_notification(json.dumps(value).encode())


def record(key: Any, bucket: Any = "docs", source: str = "aws:s3", **fields: Any) -> dict[str, Any]:
    s3 = {"bucket": {"name": bucket}, "object": {"key": key}}
    return {"eventVersion": "2.6", "eventSource": source, "s3": s3, **fields}


def records(*keys: Any) -> dict[str, Any]:
    return {"Records": [record(key) for key in keys]}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_shape_is_read(name: str) -> None:
    assert read_notification((SAMPLES / name).read_bytes()) == EXPECTED[name]


def test_each_sample_is_expected_and_has_its_origin_named() -> None:
    files = {path.name for path in SAMPLES.glob("*.json*")}
    origins = (SAMPLES / "README.txt").read_text()
    assert files == set(EXPECTED)
    for name in files:
        assert name in origins or name.startswith("seaweedfs-"), name


# --- Keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a+b", "a b"),
        ("a%20b", "a b"),
        ("a%2Bb", "a+b"),
        ("a%2Fb", "a/b"),
        ("100%25", "100%"),
        ("100%2525", "100%25"),
        ("%F0%9F%8C%B7", "🌷"),
        ("a%0Ab", "a\nb"),
        ("100%", "100%"),
    ],
)
def test_a_key_of_aws_is_decoded_once(text: str, key: str) -> None:
    assert read(records(text)) == names(key)


def test_a_key_that_no_encoder_writes_is_also_named_as_it_stands() -> None:
    # Some emulators of AWS say aws:s3 and do not encode.
    assert read(records("ü+1.md")) == names("ü+1.md", "ü 1.md")
    assert read(records("a b+c.md")) == names("a b+c.md", "a b c.md")
    assert read(records("%FF.md")) == names("%FF.md")


def test_a_source_that_is_not_known_gets_both_readings() -> None:
    assert read({"Records": [record("a+b", source="example:s3")]}) == names("a+b", "a b")
    assert read({"Records": [record("plain.md", source="example:s3")]}) == names("plain.md")


def test_a_reading_that_is_no_key_does_not_lose_the_other() -> None:
    encoded = quote_plus("ü" * (MAX_KEY_BYTES // 2))
    assert read({"Records": [record(encoded, source="ceph:s3")]}) == names("ü" * (MAX_KEY_BYTES // 2))


@settings(deadline=None)
@given(key=st.text(min_size=1, max_size=200).filter(lambda key: "\0" not in key))
def test_any_key_encoded_as_aws_does_comes_back(key: str) -> None:
    assert read(records(quote_plus(key, safe="/"))) == names(key)
    assert read(records(quote_plus(key, safe=""))) == names(key)


@settings(deadline=None)
@given(key=st.text(min_size=1, max_size=200).filter(lambda key: "\0" not in key))
def test_any_key_comes_back_from_servers_that_do_not_encode(key: str) -> None:
    event = sample("eventbridge-created.json")
    event["detail"]["object"]["key"] = key
    assert read(event) == names(key)
    assert ObjectName("docs", key) in read({"Records": [record(key, source="ceph:s3")]}).objects


# --- Batches ---------------------------------------------------------------------------------------------------------


def test_notifications_come_in_lists_and_in_lines() -> None:
    batch = [sample("minio-redis-access.json"), sample("aws-test-event.json"), sample("eventbridge-deleted.json")]
    expected = names("guides/a b+c.md", "guides/old.md")
    assert read(batch) == expected
    for end in ("\n", "\r\n", "\n\n"):
        assert read_notification(end.join(map(json.dumps, batch)).encode()) == expected


def test_a_line_separator_in_a_key_is_no_end_of_a_line() -> None:
    event = sample("eventbridge-created.json")
    event["detail"]["object"]["key"] = "a\u2028b\u0085c"
    lines = "\n".join(json.dumps(one, ensure_ascii=False) for one in (event, records("d")))
    assert read_notification(lines.encode()) == names("a\u2028b\u0085c", "d")


def test_duplicates_collapse() -> None:
    assert read(
        [records("a", "a"), records("a"), sample("sns-confirmation.json"), sample("sns-confirmation.json")]
    ) == (Mentions(names("a").objects, confirmations=(CONFIRMATION,)))


def test_an_empty_batch_names_nothing() -> None:
    assert read([]) == read({"Records": []}) == NOTHING


def test_a_byte_order_mark_is_no_part_of_the_json() -> None:
    assert read_notification(b"\xef\xbb\xbf" + json.dumps(records("a")).encode()) == names("a")


# --- What cannot be read ---------------------------------------------------------------------------------------------

ODD = {
    "no key": (record(None), "without the name of its object"),
    "an empty key": (record(""), "without the name of its object"),
    "a number as the key": (record(7), "without the name of its object"),
    "a list as the key": (record(["a"]), "without the name of its object"),
    "a NUL": (record("a%00b"), "NUL"),
    "a long key": (record("a" * (MAX_KEY_BYTES + 1)), "1,025 bytes"),
    "a key that is long in UTF-8": (record("%C3%BC" * 513), "1,026 bytes"),
    "half of a surrogate pair": (record("a\ud800"), "not Unicode"),
    "no bucket": (record("a", bucket=None), "without the name of its bucket"),
    "a long bucket": (record("a", bucket="b" * 256), "256 bytes"),
    "a bucket that is an object": (record("a", bucket={"name": "b"}), "without the name of its bucket"),
    "another major version": (record("a", eventVersion="3.0"), "eventVersion"),
    "a version that begins alike": (record("a", eventVersion="20.1"), "eventVersion"),
    "an unknown shape": ({"kind": "storage#object", "name": "a"}, "'kind', 'name'"),
    "an empty object": ({}, "an empty object"),
    "a number": (7, "no object and no list"),
    "a text": ("a", "no object and no list"),
    "null": (None, "no object and no list"),
    "a message that is no JSON": ({"Type": "Notification", "Message": "hello"}, "not JSON"),
    "a message of a new type": ({"Type": "Farewell", "Message": ""}, "unknown type"),
    "a body that is no JSON": ({"messageId": "1", "body": ""}, "not JSON"),
    "an event of another service": ({"detail-type": "EC2 Instance", "detail": {"state": "running"}}, "bucket"),
    "a confirmation without an address": ({"Type": "SubscriptionConfirmation", "Message": ""}, "SubscribeURL"),
    "a CloudEvent of another service": ({"specversion": "1.0", "data": {"kind": "storage#object"}}, "'kind'"),
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_part_is_refused_alone_and_left_out_beside_good_ones(odd: str) -> None:
    value, reason = ODD[odd]
    with pytest.raises(NotificationError, match=reason) as refusal:
        read(value)
    assert "Lockstep understands S3 notifications ('Records')" in str(refusal.value)
    for batch in ({"Records": [record("good"), value]}, [value, records("good")]):
        mentions = read(batch)
        assert mentions.objects == names("good").objects
        assert mentions.unreadable == 1
        assert reason in mentions.reasons[0]


def test_a_broken_line_does_not_lose_the_others() -> None:
    lines = json.dumps(records("a")) + "\n" + json.dumps(records("b"))[:-5] + "\n" + json.dumps(records("c"))
    mentions = read_notification(lines.encode())
    assert mentions.objects == names("a", "c").objects
    assert mentions.unreadable == 1


def test_a_number_of_many_digits_loses_nothing() -> None:
    body = json.dumps(records("a")).replace('"eventVersion"', '"size": ' + "9" * 5000 + ', "eventVersion"')
    assert read_notification(body.encode()) == names("a")


@pytest.mark.parametrize("version", ["2.0", "2.1", "2.9", "2.17", "2"])
def test_minor_versions_are_read(version: str) -> None:
    assert read({"Records": [record("a", eventVersion=version)]}) == names("a")


def test_a_record_without_a_version_is_read() -> None:
    assert read({"s3": {"bucket": {"name": "docs"}, "object": {"key": "a"}}}) == names("a")


def test_the_reasons_are_few_and_cannot_imitate_a_line() -> None:
    mentions = read([records("good"), *({f"\x1b[2J\n{number}" * 40: 1} for number in range(50))])
    assert mentions.unreadable == 50
    assert len(mentions.reasons) == 5
    assert all(reason.isprintable() and len(reason) < 200 for reason in mentions.reasons)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://example.org",
        "javascript:alert(1)",
        "https://a\nb",
        "https://a b",
        "https://ä",
        "https://" + "a" * 2048,
        7,
    ],
)
def test_an_address_that_nobody_should_see_is_left_out(url: Any) -> None:
    with pytest.raises(NotificationError, match="SubscribeURL"):
        read(sample("sns-confirmation.json") | {"SubscribeURL": url})


# --- SeaweedFS -------------------------------------------------------------------------------------------------------


def filer(key: str, **message: Any) -> dict[str, Any]:
    return {"key": key, "event_type": "update", "message": message}


def test_a_folder_event_of_seaweedfs_mentions_nothing_unless_it_stands_for_many_files() -> None:
    folder = {"name": "docs", "is_directory": True}
    bucket = Mentions(relist=frozenset({"docs"}))
    assert read(filer("/buckets/docs", new_entry=folder, new_parent_path="/buckets")) == NOTHING
    assert read(filer("/buckets/docs", old_entry=folder, new_entry=folder, new_parent_path="/buckets")) == NOTHING
    assert read(filer("/buckets/docs/a", old_entry=folder)) == NOTHING
    assert read(filer("/buckets/docs/.uploads/1", old_entry=folder)) == NOTHING
    assert read(filer("/buckets/docs", old_entry=folder)) == bucket
    # From outside into a bucket, and from one bucket into another.
    moved = {"old_entry": folder, "new_entry": folder}
    assert read(filer("/home/docs", **moved, new_parent_path="/buckets")) == bucket
    assert read(filer("/buckets/a/docs", **moved, new_parent_path="/buckets/b")).relist == {"a", "b"}


def test_the_kind_of_a_seaweedfs_event_is_not_believed() -> None:
    rename = sample("seaweedfs-rename.json")
    for kind in ("create", "update", "delete", "", "nonsense"):
        assert read(rename | {"event_type": kind}) == EXPECTED["seaweedfs-rename.json"]


@pytest.mark.parametrize("entry", [None, 7, [], {"name": 7}, {"name": "a", "is_directory": "yes"}])
def test_an_odd_entry_of_seaweedfs_leaves_the_key(entry: Any) -> None:
    assert ObjectName("docs", "a") in read(filer("/buckets/docs/a", old_entry=entry, new_entry=entry)).objects


def test_a_file_among_the_buckets_of_seaweedfs_is_no_object() -> None:
    assert read(filer("/buckets/a", new_entry={"name": "a"}, new_parent_path="/buckets")) == NOTHING
    assert read(filer("/bucketsandmore/docs/a", new_entry={"name": "a"})) == NOTHING


# --- Limits ----------------------------------------------------------------------------------------------------------


def test_a_body_may_have_a_mebibyte_and_no_more() -> None:
    body = json.dumps(records("a")).encode()
    assert read_notification(body.ljust(MAX_BODY_BYTES)) == names("a")
    with pytest.raises(NotificationError, match="1,048,577 bytes"):
        read_notification(body.ljust(MAX_BODY_BYTES + 1))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * MAX_BODY_BYTES,
        b'{"s3":' * 100_000,
        b"[" * 900 + b"]" * 900,
        (b"[" * 2000 + b"\n") * 500,
        b"",
        b" \n ",
        b"\xff\xfe{\x00}\x00",
        b"{} {}",
        b"nonsense",
        b"1\n2",
    ],
)
def test_what_is_no_notification_is_refused(body: bytes) -> None:
    with pytest.raises(NotificationError):
        read_notification(body)


@pytest.mark.parametrize("part", [b"{}", b"[]", b"1", b'{"Records":[]}', b'{"Event":"s3:TestEvent"}'])
def test_more_parts_than_a_server_sends_are_refused(part: bytes) -> None:
    with pytest.raises(NotificationError, match="more than 20,000 parts"):
        read_notification(b"[" + b",".join([part] * (MAX_PARTS + 1)) + b"]")


def test_envelopes_within_each_other_have_an_end() -> None:
    message: Any = records("a")
    for _ in range(5):
        message = {"Type": "Notification", "Message": json.dumps(message)}
    assert read(message) == names("a")
    for _ in range(5):
        message = {"Type": "Notification", "Message": json.dumps(message)}
    with pytest.raises(NotificationError, match="8 envelopes"):
        read(message)


# --- Any input -------------------------------------------------------------------------------------------------------


def mentions_or_refusal(body: bytes) -> None:
    try:
        mentions = read_notification(body)
    except NotificationError:
        return
    for name in mentions.objects:
        assert name.bucket
        assert 0 < len(name.key.encode()) <= MAX_KEY_BYTES


@settings(deadline=None)
@given(body=st.binary(max_size=2000))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    mentions_or_refusal(body)


FIELDS = st.sampled_from([
    "Records", "Event", "s3", "bucket", "object", "name", "key", "eventVersion", "eventSource", "configurationId",
    "Type", "Message", "SubscribeURL", "detail", "detail-type", "messageId", "body", "MessageId", "Body",
    "specversion", "data", "event_type", "message", "old_entry", "new_entry", "new_parent_path", "is_directory",
])  # fmt: skip
WORDS = st.sampled_from(
    ["s3:TestEvent", "Notification", "SubscriptionConfirmation", "aws:s3", "2.1", "/buckets/a/b.versions", "[]", "a+%"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(FIELDS | st.text(max_size=5), values, max_size=6),
    max_leaves=40,
)


@settings(max_examples=400, deadline=None)
@given(value=VALUES)
def test_any_json_is_read_or_refused(value: Any) -> None:
    mentions_or_refusal(json.dumps(value).encode())


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(sorted(EXPECTED)), value=VALUES, data=st.data())
def test_a_sample_with_any_value_in_any_field_is_read_or_refused(name: str, value: Any, data: st.DataObject) -> None:
    lines = (SAMPLES / name).read_text().split("\n")
    document: Any = [json.loads(line) for line in lines if line] if name.endswith(".jsonl") else sample(name)
    place = document
    while True:
        field = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not (isinstance(place[field], dict | list) and place[field] and data.draw(st.booleans())):
            break
        place = place[field]
    place[field] = value
    mentions_or_refusal(json.dumps(document).encode())
