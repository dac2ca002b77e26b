"""What boto3 raises, as our errors."""

from __future__ import annotations

import pytest
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from blocks.s3_source import S3Source
from tasks.bucket.errors import MovedOnError, explain, s3_errors
from tasks.errors import LockstepError, PartError, PermanentError, TransientError

SOURCE = S3Source(bucket="papers", endpoint_url="http://minio:9000")


def answer(code: str, status: int = 400, operation: str = "GetObject") -> boto.ClientError:
    response = {"Error": {"Code": code, "Message": "words"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return boto.ClientError(response, operation)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "status", "expected", "words"),
    [
        ("NoSuchKey", 404, MovedOnError, "NoSuchKey"),
        ("404", 404, MovedOnError, "404"),
        ("NoSuchVersion", 404, MovedOnError, "NoSuchVersion"),
        ("PreconditionFailed", 412, MovedOnError, "PreconditionFailed"),
        ("412", 412, MovedOnError, "412"),
        ("NoSuchBucket", 404, PartError, "set BUCKET"),
        ("InvalidAccessKeyId", 403, PartError, "AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", 403, PartError, "AWS_SECRET_ACCESS_KEY"),
        ("AccessDenied", 403, PartError, "policy"),
        ("403", 403, PartError, "AWS_ACCESS_KEY_ID"),
        ("ExpiredToken", 400, PartError, "ExpiredToken"),
        ("AuthorizationHeaderMalformed", 400, PartError, "AuthorizationHeaderMalformed"),
        ("SlowDown", 503, TransientError, "SlowDown"),
        ("RequestTimeout", 400, TransientError, "RequestTimeout"),
        ("429", 429, TransientError, "429"),
        ("InternalError", 500, TransientError, "500"),
        ("ServiceUnavailable", 503, TransientError, "503"),
        ("", 502, TransientError, "502"),
        ("InvalidRange", 416, PartError, "InvalidRange"),
        ("MethodNotAllowed", 405, PartError, "MethodNotAllowed"),
    ],
)
def test_an_error_answer(code: str, status: int, expected: type[LockstepError], words: str) -> None:
    error = explain(answer(code, status), SOURCE)
    assert type(error) is expected
    assert words in str(error)


@pytest.mark.parametrize("code", ["NoSuchBucket", "AccessDenied", "SlowDown", "MethodNotAllowed"])
def test_the_message_names_bucket_and_server(code: str) -> None:
    assert "bucket 'papers' at http://minio:9000" in str(explain(answer(code), SOURCE))
    assert "bucket 'papers' at AWS" in str(explain(answer(code), S3Source(bucket="papers")))


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (answer("NoSuchBucket", 404), PartError, "set BUCKET"),
        (boto.NoCredentialsError(), PartError, "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (boto.PartialCredentialsError(provider="env", cred_var="x"), PartError, "AWS_SECRET_ACCESS_KEY"),
        (boto.ParamValidationError(report="Invalid bucket name"), PartError, "Check BUCKET"),
        (boto.EndpointConnectionError(endpoint_url="http://minio:9000"), TransientError, "AWS_ENDPOINT_URL"),
        (boto.ConnectTimeoutError(endpoint_url="http://minio:9000"), TransientError, "ConnectTimeoutError"),
        (boto.ReadTimeoutError(endpoint_url="http://minio:9000"), TransientError, "ReadTimeoutError"),
        (boto.ResponseStreamingError(error="broke off"), TransientError, "ResponseStreamingError"),
        (ConnectionResetError(104, "reset by peer"), TransientError, "ConnectionResetError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_is_raised_inside_is_translated_with_its_cause(
    error: Exception, expected: type[LockstepError], words: str
) -> None:
    with pytest.raises(expected) as caught, s3_errors(SOURCE):
        raise error
    assert words in str(caught.value)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [PermanentError("our own"), ZeroDivisionError("a bug")])
def test_errors_of_others_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, s3_errors(SOURCE):
        raise error
    assert caught.value is error


def test_a_full_disk_is_not_blamed_on_the_server() -> None:
    with pytest.raises(Exception, match="No space left") as caught, s3_errors(SOURCE):
        raise OSError(28, "No space left on device")
    assert "does not answer" not in str(caught.value)


@pytest.mark.parametrize(("code", "status"), [("AccessDenied", 403), ("InvalidRequest", 400)])
def test_one_object_that_is_withheld_stops_no_other(code: str, status: int) -> None:
    assert isinstance(explain(answer(code, status), SOURCE, one_object=True), PermanentError)
    assert isinstance(explain(answer(code, status), SOURCE), PartError)


def test_an_answer_that_cannot_be_parsed_may_pass() -> None:
    with pytest.raises(TransientError), s3_errors(SOURCE):
        raise ResponseParserError("cut off")
