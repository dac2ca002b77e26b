"""What pymilvus raises, as our errors."""

from __future__ import annotations

import pytest

from blocks.milvus_store import MilvusStore
from blocks.pymilvus_import import load_pymilvus
from tasks.errors import ContentError, GoneError, LockstepError, PartError, TransientError
from tasks.milvus.errors import explain, milvus_errors

MilvusException = load_pymilvus().MilvusException
STORE = MilvusStore(uri="http://milvus:19530")


@pytest.mark.parametrize(
    ("message", "expected", "setting"),
    [
        ("auth check failure, please check api key is correct", PartError, "MILVUS_TOKEN"),
        ("<_InactiveRpcError: status = StatusCode.UNAUTHENTICATED>", PartError, "MILVUS_TOKEN"),
        ("PrivilegeInsert: permission deny to reader in the `default` database", PartError, "MILVUS_TOKEN"),
        ("invalid user or password", PartError, "MILVUS_TOKEN"),
        ("invalid token", PartError, "MILVUS_TOKEN"),
        ("Fail connecting to server on milvus:19530, illegal connection params or server unavailable",
         TransientError, "MILVUS_URI"),
        ("StatusCode.DEADLINE_EXCEEDED: Deadline Exceeded", TransientError, "MILVUS_URI"),
        ("request is rejected by grpc RateLimiter middleware, please retry later: rate limit exceeded",
         TransientError, "MILVUS_URI"),
        ("fail to get shard delegator from QueryCoord", TransientError, "MILVUS_URI"),
        ("service not ready[queryNode=3]: Initializing", TransientError, "MILVUS_URI"),
        ("channel not available[channel=by-dev-rootcoord-dml_0]", TransientError, "MILVUS_URI"),
        ("collection not loaded[collection=docs_g0001]", TransientError, "MILVUS_URI"),
        ("Cannot invoke RPC on closed channel!", TransientError, "MILVUS_URI"),
        ("Connection reset by peer", TransientError, "MILVUS_URI"),
        ("File is too small: 0", TransientError, "MILVUS_URI"),  # Milvus Lite, reading what it is writing
        ("Not an Arrow file", TransientError, "MILVUS_URI"),
        ("could only read 9 elements. (file seems not fully written?)", TransientError, "MILVUS_URI"),
        ("can't find collection[database=default][collection=docs_g0001]", GoneError, "Ask again"),
        ("collection 'docs_g0001' does not exist", GoneError, "Ask again"),
        ("the dim (768) of field data is not equal to schema dim (384)", PartError, "refused the call"),
        ("length of varchar field text exceeds max length", ContentError, "refused the call"),
        ("the length (65536) of 0th string exceeds max length (65535): invalid parameter[expected=valid length string]",
         ContentError, "refused the call"),
        ("the length (70008) of json field (metadata) exceeds max length (65536): invalid parameter[actual=too long]",
         ContentError, "refused the call"),
        ("VARCHAR field 'heading' value length 9000 exceeds max_length=8192", ContentError, "refused the call"),
        ("value 'NaN' is not a number or infinity", ContentError, "refused the call"),
        ("{text} field should be a varchar, but got a {<class 'str'>} instead. Detail: 'utf-8' codec can't encode "
         "character '\\ud800' in position 1: surrogates not allowed", ContentError, "refused the call"),
        ("the length(11) of float data should divide the dim(8)", PartError, "refused the call"),
        ("Insert missed an field `heading` to collection without set nullable==true", PartError, "refused the call"),
        ("grpc: received message larger than max (78147919 vs. 67108864)", PartError, "refused the call"),
        ("invalid max query result window, (offset+limit) should be in range [1, 16384], but got 20000",
         PartError, "refused the call"),
        ("exceeded max collection number", PartError, "refused the call"),
        ("", PartError, "MilvusException"),
    ],
)  # fmt: skip
def test_the_words_of_an_error_decide(message: str, expected: type[LockstepError], setting: str) -> None:
    error = explain(MilvusException(message=message), STORE)
    assert type(error) is expected
    assert setting in str(error)
    assert "http://milvus:19530" in str(error)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("collection not loaded[collection=authors_g0001]", TransientError),
        ("channel not available[channel=tokens_g0001_v0]", TransientError),
        ("can't find collection[database=default][collection=authors_g0001]", GoneError),
        ("cannot parse expression: key in [\"authors.md\"], error: line 1:5 token recognition error", PartError),
    ],
)  # fmt: skip
def test_a_name_or_a_key_in_the_message_is_not_taken_for_its_cause(message: str, expected: type[LockstepError]) -> None:
    error = explain(MilvusException(message=message), STORE)
    assert type(error) is expected
    assert "MILVUS_TOKEN" not in str(error)


def test_a_long_error_is_one_short_line() -> None:
    text = str(explain(MilvusException(message="no such field\n" + "stack\n" * 500 + "x" * 9_000), STORE))
    assert "\n" not in text
    assert len(text) < 500


@pytest.mark.parametrize("error", [MilvusException(message="rate limit exceeded"), ConnectionRefusedError("connect")])
def test_what_is_raised_inside_is_translated_with_its_cause(error: Exception) -> None:
    with pytest.raises(TransientError) as caught, milvus_errors(STORE):
        raise error
    assert caught.value.__cause__ is error


def test_a_bug_passes_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), milvus_errors(STORE):
        raise ZeroDivisionError


def test_no_secret_is_in_a_message() -> None:
    store = MilvusStore(uri="http://milvus:19530", token="root:hunter2")
    assert "hunter2" not in str(explain(MilvusException(message="auth check failure"), store))
