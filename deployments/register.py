"""Register block types with Prefect for the UI, and save the pipeline that the environment describes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from prefect.blocks.core import Block
from prefect.exceptions import ObjectNotFound
from prefect_aws import AwsCredentials, MinIOCredentials
from pydantic import SecretStr, ValidationError

from blocks.chat_model import ChatModel
from blocks.embedder import Embedder
from blocks.ledger import Ledger
from blocks.milvus_store import MilvusStore
from blocks.pipeline import Pipeline
from blocks.s3_source import S3Source
from blocks.settings import Settings
from deployments.endpoints import Endpoints
from deployments.environment import Environment, plain
from tasks.bucket.identity import embedded_server
from tasks.errors import MisuseError
from tasks.generations.fingerprint import FOLLOWING
from tasks.pipelines import check_prefix

TYPES: tuple[type[Block], ...] = (
    AwsCredentials,
    MinIOCredentials,
    S3Source,
    MilvusStore,
    Embedder,
    ChatModel,
    Ledger,
    Pipeline,
)


def settings_of(env: Environment) -> Settings:
    """Return the settings with the environment's overrides (LOCKSTEP_CHUNK_TOKENS and the like).

    On an entirely local stack, people try things out. So answers there fall back to extracts if the chat model fails.
    """
    local = {"fallback": "extractive"} if env.aws_endpoint_url is None and env.milvus_uri is None else {}
    try:
        return Settings(**{**local, **env.settings_overrides})
    except ValidationError as error:
        first = error.errors()[0]
        variable = "LOCKSTEP_" + str(first["loc"][0]).upper()
        raise MisuseError(f"{variable}={first['input']!r} is invalid: {first['msg']}.") from error


def changed_settings(settings: Settings, given: dict[str, Any]) -> Settings:
    """Return the settings with checked changes from the command line. None means not given."""
    changes = {name: value for name, value in given.items() if value is not None}
    if changes.get("index_type", settings.index_type) != settings.index_type:  # parameters belong to one index type
        changes = {"index_params": {}, "search_params": {}, **changes}
    try:
        return Settings(**{**settings.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise MisuseError(f"{option} {first['input']!r} is invalid: {first['msg']}.") from error


def describe(env: Environment, here: Endpoints) -> Pipeline:
    """Return the pipeline that the environment describes, with unsaved blocks."""
    chat = None
    if here.vllm_base_url:
        chat = ChatModel(base_url=here.vllm_base_url, api_key=here.vllm_api_key, model=here.llm_model)
    return Pipeline(
        alias=env.collection_name,
        source=S3Source(
            bucket=here.bucket,
            prefix=here.prefix,
            endpoint_url=here.s3_endpoint or None,
            **({} if env.aws_endpoint_url else _embedded(env, here)),
            credentials=AwsCredentials(
                aws_access_key_id=here.s3_access_key,
                aws_secret_access_key=here.s3_secret_key,
                aws_session_token=plain(here.s3_session_token),
                region_name=here.s3_region,
            ),
        ),
        store=MilvusStore(uri=here.milvus_uri, token=here.milvus_token, database=here.milvus_db),
        embedder=Embedder(**({"model_name": env.embed_model_name} if env.names_a_model else {})),
        ledger=Ledger(url=SecretStr(here.ledger_url.get_secret_value())),
        chat_model=chat,
        settings=settings_of(env),
    )


def _embedded(env: Environment, here: Endpoints) -> dict[str, str]:
    """Return fields that distinguish this home's S3 server from another's."""
    return {"server": embedded_server(here.s3_access_key or ""), "folder": str(env.home / "s3" / here.bucket)}


def save(pipeline: Pipeline, name: str, no_longer_named: Collection[str] = ()) -> str:
    """Save a pipeline and its nested blocks under one name, each as a block of its own. Return the name.

    A worker that loads the pipeline meanwhile gets a mix of old and new blocks. The generation records its source and
    its ledger, so such a sync is refused (`tasks/generations/claims.py`).
    """
    pipeline = merged(pipeline, name, no_longer_named)
    source = pipeline.source.model_copy(update={"credentials": _saved(pipeline.source.credentials, name)})
    parts: dict[str, Any] = {"source": _saved(source, name)}
    for field in ("store", "embedder", "ledger", "chat_model"):
        block = getattr(pipeline, field)
        parts[field] = _saved(block, name) if block is not None else None
    _saved(pipeline.model_copy(update=parts), name)
    return name


def merged(pipeline: Pipeline, name: str, no_longer_named: Collection[str] = ()) -> Pipeline:
    """Return the pipeline that saving under a name results in.

    Fields that the environment does not cover (globs, limits, timeouts, prompts) keep their values from the Prefect
    UI. Settings of a generation keep the values of the last rebuild or rollback. A setting that was in the environment
    last time and is not any more returns to its default.
    """
    before = _existing(Pipeline, name)
    if before is not None and before.alias != pipeline.alias:
        raise MisuseError(
            f"COLLECTION_NAME {pipeline.alias} and the pipeline of {before.alias} would share the block name '{name}'. "
            "Choose a COLLECTION_NAME that differs in more than capitals and underscores."
        )
    if before is not None:
        given = {*pipeline.settings.model_fields_set, *no_longer_named}
        kept = {name: getattr(before.settings, name) for name in FOLLOWING if name not in given}
        pipeline = pipeline.model_copy(update={"settings": pipeline.settings.model_copy(update=kept)})
    check_prefix(pipeline.settings.tenants, pipeline.source.prefix)
    if "model_name" in no_longer_named:
        default = Embedder.model_fields["model_name"].default
        embedder = pipeline.embedder.model_copy(update={"model_name": default})
        pipeline = pipeline.model_copy(update={"embedder": embedder})
    parts: dict[str, Any] = {}
    for field in ("source", "store", "embedder", "ledger", "chat_model"):
        block = getattr(pipeline, field)
        if isinstance(block, S3Source):
            block = block.model_copy(update={"credentials": _with_kept(block.credentials, name)})
        parts[field] = _with_kept(block, name) if block is not None else None
    whole: Pipeline = _with_kept(pipeline.model_copy(update=parts), name)
    return whole


def _with_kept(block: Any, name: str) -> Any:
    """Return a block whose fields that are not given are taken from the block saved under that name."""
    before = _existing(type(block), name)
    if before is None:
        return block
    given = {*block.model_fields_set}
    if isinstance(block, S3Source) and block.endpoint_url != before.endpoint_url:
        given |= {"server", "folder"}  # the saved values belong to the old address
    kept = {field: getattr(before, field) for field in type(block).model_fields if field not in given}
    return block.model_copy(update=kept)


def _saved(block: Any, name: str) -> Any:
    block.save(name, overwrite=True)
    return block


def saved(name: str) -> Pipeline | None:
    """Return the pipeline saved under a name, if there is one."""
    before: Pipeline | None = _existing(Pipeline, name)
    return before


VARIABLES = {
    "source": {"bucket": "BUCKET", "prefix": "PREFIX", "endpoint_url": "AWS_ENDPOINT_URL"},
    "store": {"uri": "MILVUS_URI", "database": "MILVUS_DB"},
    "embedder": {"model_name": "EMBED_MODEL_NAME"},
    "chat_model": {"base_url": "VLLM_BASE_URL", "model": "LLM_MODEL"},
}
SECRETS = {
    "source": {"credentials": "AWS_ACCESS_KEY_ID and its secret"},
    "store": {"token": "MILVUS_TOKEN"},
    "ledger": {"url": "LEDGER_URL"},
    "chat_model": {"api_key": "VLLM_API_KEY"},
}


def deviations(now: Pipeline, before: Pipeline) -> list[str]:
    """Return the settings in which a pipeline differs from the saved one: variable, both values, no secrets."""
    found = []
    for part in ("source", "store", "embedder", "ledger", "chat_model"):
        one, other = getattr(now, part), getattr(before, part)
        for field, variable in VARIABLES.get(part, {}).items():
            here, kept = getattr(one, field, None), getattr(other, field, None)
            if here != kept:
                found.append(f"{variable} (saved: {_shown(kept)}, here: {_shown(here)})")
        for field, variable in SECRETS.get(part, {}).items():
            if _revealed(getattr(one, field, None)) != _revealed(getattr(other, field, None)):
                found.append(f"{variable} (another one is saved)")
    for field in Settings.model_fields:
        here, kept = getattr(now.settings, field), getattr(before.settings, field)
        if here != kept:
            found.append(f"LOCKSTEP_{field.upper()} (saved: {_shown(kept)}, here: {_shown(here)})")
    return found


def _shown(value: object) -> str:
    return str(value) if value not in (None, "") else "none"


def _revealed(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Block):
        return {field: _revealed(getattr(value, field)) for field in type(value).model_fields}
    return value


def _existing(kind: type[Block], name: str) -> Any:
    try:
        return kind.load(name, validate=False)
    except (ValueError, ObjectNotFound):
        return None


def register_types() -> None:
    """Register every block type, so that the UI can show and create such blocks."""
    for kind in TYPES:
        kind.register_type_and_schema()
