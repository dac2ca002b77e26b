"""The addresses and credentials in use: the configured ones, else those of the local stack."""

from __future__ import annotations

import base64
import re
import socket
import zlib
from dataclasses import dataclass, field

from pydantic import SecretStr

from deployments.environment import Environment, prefect_auth
from deployments.state import State
from tasks.sanitize import keep_secrets


@dataclass(frozen=True)
class Endpoints:
    """The addresses and credentials in use. An embedded part that never ran has the address "".

    ``prefect_open_url`` opens the UI without typing a password. With an embedded server it contains the password.
    """

    s3_endpoint: str
    s3_access_key: str | None
    s3_secret_key: SecretStr | None
    s3_session_token: SecretStr | None
    s3_region: str
    bucket: str
    prefix: str
    milvus_uri: str
    milvus_token: SecretStr | None
    milvus_db: str | None
    ledger_url: SecretStr
    vllm_base_url: str | None
    vllm_api_key: SecretStr | None
    llm_model: str | None
    prefect_api_url: str
    prefect_ui_url: str
    prefect_open_url: str = field(repr=False)
    prefect_api_key: SecretStr | None
    prefect_auth_string: SecretStr | None
    worker_name: str
    alias: str
    pipeline: str

    def __post_init__(self) -> None:
        keep_secrets(self)  # registers these secrets, so that they are masked in messages and logs


def block_name(alias: str) -> str:
    """Return the name for the blocks and deployments of an alias. Prefect allows lower case, digits and dashes."""
    return alias.lower().replace("_", "-").strip("-")


def resolve(env: Environment, state: State) -> Endpoints:
    """Return the addresses and credentials of the environment, or of the embedded parts if none are set.

    The AWS keys of the environment are used only with AWS_ENDPOINT_URL. The embedded S3 has its own keys.
    """
    own_s3 = env.aws_endpoint_url is not None
    api_url = env.prefect_api_url or state.url("prefect") or ""
    return Endpoints(
        s3_endpoint=env.aws_endpoint_url or state.url("s3") or "",
        s3_access_key=env.aws_access_key_id if own_s3 else state.access_key,
        s3_session_token=env.aws_session_token if own_s3 else None,
        s3_secret_key=env.aws_secret_access_key if own_s3 else SecretStr(state.secret_key),
        s3_region=env.aws_region,
        bucket=env.bucket,
        prefix=env.prefix,
        milvus_uri=env.milvus_uri or state.url("milvus") or "",
        milvus_token=env.milvus_token if env.milvus_uri else None,
        milvus_db=env.milvus_db if env.milvus_uri else None,
        ledger_url=env.ledger_url or SecretStr(f"sqlite:///{env.home / 'ledger.db'}"),
        vllm_base_url=env.vllm_base_url,
        vllm_api_key=env.vllm_api_key,
        llm_model=env.llm_model,
        prefect_api_url=api_url,
        prefect_ui_url=_ui_url(api_url),
        prefect_open_url=_open_url(env, state, _ui_url(api_url)),
        prefect_api_key=env.prefect_api_key if env.prefect_api_url else None,
        prefect_auth_string=prefect_auth(env, state),
        # The name stays the same after a restart, so that the pool's page does not fill with dead workers.
        # Another home on this machine gets another worker.
        worker_name=f"{socket.gethostname()}-{zlib.crc32(str(env.home).encode()):08x}",
        alias=env.collection_name,
        pipeline=block_name(env.collection_name),
    )


def _ui_url(api_url: str) -> str:
    cloud = re.fullmatch(r"(https://)api\.(.+)/api/accounts/([^/]+)/workspaces/([^/]+)", api_url)
    if cloud:
        return "{}app.{}/account/{}/workspace/{}".format(*cloud.groups())
    return api_url.removesuffix("/api")


def _open_url(env: Environment, state: State, ui_url: str) -> str:
    return ui_url if env.prefect_api_url or not state.prefect_auth else opening(ui_url, state.prefect_auth)


def opening(ui_url: str, auth_string: str) -> str:
    """Return the link that opens the UI of an embedded server without typing a password. It contains the password."""
    return f"{ui_url}{OPEN}#{base64.b64encode(auth_string.encode()).decode()}"


OPEN = "/lockstep/open"
