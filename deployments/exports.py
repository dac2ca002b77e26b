"""Export the addresses and secrets in use as variables for other tools, as `lockstep env` prints them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from pydantic import SecretStr

from deployments.endpoints import Endpoints
from deployments.environment import Environment

MISLEADING = ("AWS_SESSION_TOKEN", "PREFIX", "MILVUS_TOKEN", "MILVUS_DB", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING")
"""Variables that a shell may have from another stack. They are unset, since they do not fit these addresses."""


def exports(env: Environment, here: Endpoints) -> dict[str, str]:
    """Return the variables that a tool needs to reach the parts, secrets included. Unset values are left out.

    Lockstep's own commands recognise their home's addresses in these variables. They do not count as configured.
    """
    found: dict[str, str | SecretStr | None] = {
        "LOCKSTEP_HOME": str(env.home),
        "AWS_ENDPOINT_URL": here.s3_endpoint,
        "AWS_ACCESS_KEY_ID": here.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": here.s3_secret_key,
        "AWS_SESSION_TOKEN": here.s3_session_token,
        "AWS_REGION": here.s3_region,
        "AWS_DEFAULT_REGION": here.s3_region,
        "BUCKET": here.bucket,
        "PREFIX": here.prefix,
        "COLLECTION_NAME": env.collection_name,
        "EMBED_MODEL_NAME": env.embed_model_name if env.names_a_model else None,
        "MILVUS_URI": here.milvus_uri,
        "MILVUS_TOKEN": here.milvus_token,
        "MILVUS_DB": here.milvus_db,
        "LEDGER_URL": here.ledger_url,
        "VLLM_BASE_URL": here.vllm_base_url,
        "VLLM_API_KEY": here.vllm_api_key,
        "LLM_MODEL": here.llm_model,
        "DO_NOT_TRACK": "1",
        "PREFECT_API_URL": here.prefect_api_url,
        "PREFECT_API_KEY": here.prefect_api_key,
        "PREFECT_API_AUTH_STRING": here.prefect_auth_string,
    }
    plain = {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in found.items()}
    return {name: value for name, value in plain.items() if value}


def lines(variables: Mapping[str, str]) -> str:
    """Return one `export` per line, quoted for any POSIX shell. Variables of another stack are unset."""
    gone = "".join(f"unset {name}\n" for name in MISLEADING if name not in variables)
    return gone + "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
