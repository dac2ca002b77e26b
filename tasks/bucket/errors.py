"""Translate the errors of boto3, in one place, with the cause kept."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from tasks.errors import LockstepError, PartError, PermanentError, TransientError, WithheldError

if TYPE_CHECKING:
    from blocks.s3_source import S3Source

MISSING = {"NoSuchKey", "404", "NotFound", "NoSuchVersion"}
CHANGED = {"PreconditionFailed", "412"}
DENIED = {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403", "InvalidToken", "ExpiredToken",
    "AuthorizationHeaderMalformed", "Forbidden",
}  # fmt: skip
THROTTLED = {"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "TooManyRequests", "429"}


WITHHELD = {"InvalidObjectState"}
WITHHELD_ALONE = {"AccessDenied", "InvalidRequest", "Forbidden", "403"}
"""Codes that mean ``WithheldError`` for one object of many: it has a policy or an encryption key of its own."""


class MovedOnError(LockstepError):
    """The object changed or vanished between the listing and the reading."""


def where(source: S3Source) -> str:
    """Return the bucket and its server as text for a message."""
    return f"bucket '{source.bucket}' at {source.endpoint_url or 'AWS'}"


def explain(error: boto.ClientError, source: S3Source, one_object: bool = False) -> LockstepError:
    """Return our error for an error response. ``one_object`` says that one object of many is being read."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in MISSING | CHANGED:
        return MovedOnError(str(error))
    if code in WITHHELD or code.startswith("KMS.") or (one_object and code in WITHHELD_ALONE):
        return WithheldError(
            f"the bucket does not hand it out ({code}). Restore it from the archive, or allow its encryption key."
        )
    if code == "NoSuchBucket":
        return PartError(f"S3: there is no {where(source)}. Create it, or set BUCKET to one that exists.")
    if code in DENIED:
        return PartError(
            f"S3: access to {where(source)} was refused ({code}). "
            "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's policy."
        )
    if code in THROTTLED or status >= 500:
        return TransientError(f"S3: {where(source)} answered '{code}' ({status}); it may recover by itself.")
    return PartError(f"S3: {where(source)} answered '{code}': {error}.")


def too_many_headers(error: BaseException | None) -> str:
    """Return the message of Python's HTTP client if a response had more headers than it reads, else ''."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        for one in (error, *error.args):  # urllib3 passes the cause on as an argument
            if isinstance(one, http.client.LineTooLong) or (
                type(one) is http.client.HTTPException and "headers" in str(one)
            ):
                return str(one)
        error = error.__cause__ or error.__context__
    return ""


@contextmanager
def s3_errors(source: S3Source, one_object: bool = False) -> Iterator[None]:
    """Translate botocore's errors to ours."""
    try:
        yield
    except boto.ClientError as error:
        raise explain(error, source, one_object) from error
    except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
        raise PartError(
            f"S3: no credentials for {where(source)}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        ) from error
    except boto.ParamValidationError as error:
        raise PartError(f"S3: '{source.bucket}' cannot be a bucket's name. Check BUCKET.") from error
    except (boto.BotoCoreError, ResponseParserError, ConnectionError, TimeoutError) as error:
        if one_object and (why := too_many_headers(error)):
            raise PermanentError(f"its headers, with the metadata, are larger than Lockstep reads ({why})") from error
        raise TransientError(
            f"S3: {where(source)} does not answer ({type(error).__name__}). "
            "Is the server up, and is AWS_ENDPOINT_URL right?"
        ) from error
