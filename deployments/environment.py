"""Read and check the environment, and make the environment of child processes. No other module reads it.

    load()                           the variables that Lockstep knows, from the environment and ``.env``
    prefect_environment(env, state)  the variables under which Prefect's commands and our flows run
    inherit(variables)               the whole environment of a child process

The real environment overrides ``.env``. An empty variable counts as unset. A misspelt name is refused with
the name that was probably meant, because a setting that is silently ignored costs hours.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError

from deployments import state
from deployments.state import State
from tasks.errors import MisuseError

OVERRIDE = "LOCKSTEP_"

# Names that are nearly ours are typing mistakes. AWS_*, OTEL_* and PREFECT_* are exempt, since others have names
# close to ours (AWS_ENDPOINT_URL_S3). vLLM's names (VLLM_CPU_KVCACHE_SPACE, …) are not close enough to matter.
OF_OTHERS = ("AWS_", "OTEL_", "PREFECT_")
NEARLY = 0.85


def _database_url(secret: SecretStr) -> SecretStr:
    """Return a database address that names the same file from any working folder."""
    url = secret.get_secret_value()
    if "://" not in url:
        raise ValueError("no scheme")
    scheme, _, path = url.partition(":///")
    if not scheme.startswith("sqlite"):
        return secret
    if not path or ":memory:" in path or "mode=memory" in path:
        raise ValueError("in memory, so another one in each process")
    # The path of an absolute address begins with the fourth slash. `file:` addresses are SQLite's own.
    if path.startswith(("/", "file:/")):
        return secret
    if path.startswith("file:"):
        raise ValueError("a relative path, so another one in each folder")
    return SecretStr(f"{scheme}:///{Path.cwd() / path}")


def _redis_url(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().startswith(("redis://", "rediss://", "redis+unix:///")):
        raise ValueError("no scheme of Redis")
    return secret


def _token(secret: SecretStr) -> SecretStr:
    """Return a token that every HTTP client can send in a header, and that nobody guesses."""
    if not re.fullmatch(r"[!-~][ -~]{14,}[!-~]", secret.get_secret_value()):
        raise ValueError("too short, or not printable ASCII")
    return secret


ORIGIN = r"https?://[A-Za-z0-9.*-]+(:[0-9]{1,5})?"
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+"), AfterValidator(lambda url: url.rstrip("/"))]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database_url)]


class Environment(BaseModel):
    """The checked environment. Each field's description says which values its variable may have.

    Secrets are SecretStr, so they never show in a log, a message or a repr.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    home: Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())] = Field(
        default=Path(".lockstep"),
        validate_default=True,
        validation_alias="LOCKSTEP_HOME",
        description="a folder",
    )

    public_url: HttpUrl | None = Field(
        default=None,
        validation_alias="LOCKSTEP_PUBLIC_URL",
        description="the http:// or https:// address under which people reach the service",
    )

    frame_origins: Annotated[str, StringConstraints(pattern=rf"^{ORIGIN}( +{ORIGIN})*$")] | Literal[""] = Field(
        default="",
        validation_alias="LOCKSTEP_FRAME_ORIGINS",
        description="the origins of chat pages, such as https://chat.example.org, separated by spaces",
    )

    rate_limit: Annotated[str, StringConstraints(pattern=r"^[1-9]\d{0,8}/(second|minute|hour|day)$")] | None = Field(
        default=None,
        validation_alias="LOCKSTEP_RATE_LIMIT",
        description="a number of requests for each key and time, such as 600/minute (second, minute, hour or day)",
    )
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = Field(
        default=None,
        validation_alias="LOCKSTEP_REDIS_URL",
        description="a Redis address, such as redis://user:password@host:6379/0",
    )

    watch_poll_seconds: Annotated[float, Field(ge=0)] | None = Field(
        default=None,
        validation_alias="LOCKSTEP_WATCH_POLL_SECONDS",
        description="the least seconds between two listings of the watcher; 0 for none between the whole syncs",
    )
    watch_poll_share: float = Field(
        default=0.05,
        gt=0,
        le=0.5,
        validation_alias="LOCKSTEP_WATCH_POLL_SHARE",
        description="the share of the time that the watcher may spend on listings, above 0 and at most 0.5",
    )
    watch_lag_seconds: float = Field(
        default=300.0,
        gt=0,
        validation_alias="LOCKSTEP_WATCH_LAG_SECONDS",
        description="the seconds that the index may be behind its bucket before Prefect is told",
    )
    notify_block: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")] | None = Field(
        default=None,
        validation_alias="LOCKSTEP_NOTIFY_BLOCK",
        description="the type and the name of a notification block in Prefect, such as slack-webhook/ops",
    )
    watch_token: Annotated[SecretStr, AfterValidator(_token)] | None = Field(
        default=None,
        validation_alias="LOCKSTEP_WATCH_TOKEN",
        description="a secret of 16 characters of ASCII or more, with which S3 servers notify the service",
    )
    watch_sqs_url: HttpUrl | None = Field(
        default=None,
        validation_alias="LOCKSTEP_WATCH_SQS_URL",
        description="the URL of an SQS queue that gets the bucket's notifications",
    )
    watch_redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = Field(
        default=None,
        validation_alias="LOCKSTEP_WATCH_REDIS_URL",
        description="the address of the Redis that gets the bucket's notifications",
    )
    watch_redis_key: Annotated[str, StringConstraints(min_length=1)] = Field(
        default="lockstep-events",
        validation_alias="LOCKSTEP_WATCH_REDIS_KEY",
        description="the name of the list in that Redis",
    )

    otel_endpoint: HttpUrl | None = Field(
        default=None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="the http:// or https:// address of an OpenTelemetry collector",
    )

    aws_endpoint_url: HttpUrl | None = Field(
        default=None, validation_alias="AWS_ENDPOINT_URL", description="an http:// or https:// address"
    )
    aws_access_key_id: str | None = Field(
        default=None, validation_alias="AWS_ACCESS_KEY_ID", description="an access key"
    )
    aws_secret_access_key: SecretStr | None = Field(
        default=None, validation_alias="AWS_SECRET_ACCESS_KEY", description="a secret key"
    )
    aws_session_token: SecretStr | None = Field(
        default=None, validation_alias="AWS_SESSION_TOKEN", description="the token of temporary keys"
    )
    aws_region: str = Field(default="us-east-1", validation_alias="AWS_REGION", description="a region")
    bucket: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{2,62}$")] = Field(
        default="documents",
        validation_alias="BUCKET",
        description="the name of a bucket: 3 to 63 letters, digits, dots and hyphens",
    )
    prefix: Annotated[str, StringConstraints(pattern=r"^([^/].*)?$")] = Field(
        default="", validation_alias="PREFIX", description="the start of keys, without a slash in front"
    )

    milvus_uri: Annotated[str, StringConstraints(pattern=r"^(https?|tcp)://[^\s/]+")] | None = Field(
        default=None,
        validation_alias="MILVUS_URI",
        description="an http:// or https:// address (a file serves one process only; leave MILVUS_URI out "
        "and `lockstep up` starts an embedded Milvus)",
    )
    milvus_token: SecretStr | None = Field(
        default=None, validation_alias="MILVUS_TOKEN", description="a token, or user:password"
    )
    milvus_db: str | None = Field(default=None, validation_alias="MILVUS_DB", description="the name of a database")
    collection_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,200}$")] = Field(
        default="docs",
        validation_alias="COLLECTION_NAME",
        description="letters, digits and underscores, not starting with a digit, at most 201",
    )
    embed_model_name: str = Field(
        default="sentence-transformers/all-MiniLM-L6-v2",
        validation_alias="EMBED_MODEL_NAME",
        description="the name of a model, or its folder",
    )

    vllm_base_url: HttpUrl | None = Field(
        default=None,
        validation_alias="VLLM_BASE_URL",
        description="an http:// or https:// address, with /v1 at its end",
    )
    vllm_api_key: SecretStr | None = Field(default=None, validation_alias="VLLM_API_KEY", description="an API key")
    llm_model: str | None = Field(
        default=None, validation_alias="LLM_MODEL", description="a model that VLLM_BASE_URL serves"
    )

    ledger_url: DatabaseUrl | None = Field(
        default=None,
        validation_alias="LEDGER_URL",
        description="a database address like postgresql+psycopg://user:password@host/name or sqlite:////path",
    )

    prefect_api_url: HttpUrl | None = Field(
        default=None,
        validation_alias="PREFECT_API_URL",
        description="an http:// or https:// address, with /api at its end",
    )
    prefect_api_key: SecretStr | None = Field(
        default=None, validation_alias="PREFECT_API_KEY", description="an API key of Prefect Cloud"
    )
    prefect_api_auth_string: SecretStr | None = Field(
        default=None, validation_alias="PREFECT_API_AUTH_STRING", description="user:password"
    )

    @property
    def polls_seconds(self) -> float:
        """The least seconds between two listings of the watcher, 0 for none: the server's notifications do without."""
        if self.watch_poll_seconds is not None:
            return self.watch_poll_seconds
        return 0.0 if self.watch_token or self.watch_sqs_url or self.watch_redis_url else 1.0

    @property
    def names_a_model(self) -> bool:
        """Whether EMBED_MODEL_NAME is set, even to the default."""
        return "embed_model_name" in self.model_fields_set

    settings_overrides: dict[str, Any] = Field(
        default_factory=dict, description="checked fields of Settings, set by LOCKSTEP_<FIELD> variables"
    )


def load() -> Environment:
    """Return the checked environment.

    Raises MisuseError that names the variable: it is unknown or misspelt, its value is invalid, or it needs another
    variable. The value of a secret is never shown.
    """
    given = _given()
    _refuse_unknown(given)
    try:
        env = Environment.model_validate({**given, "settings_overrides": _overrides(given)})
    except ValidationError as error:
        raise MisuseError(_explain(error, Environment, given)) from None
    env = _without_own(env)
    if env.aws_endpoint_url and "BUCKET" not in given:
        raise MisuseError(
            "AWS_ENDPOINT_URL is set, but BUCKET is not. Set BUCKET to the bucket to index. "
            "Only the embedded S3 has a default bucket."
        )
    return env


def _without_own(env: Environment) -> Environment:
    """Return the environment without the addresses of this home's own parts, which `lockstep env` exported."""
    own = state.load(env.home)
    parts = {"aws_endpoint_url": "s3", "milvus_uri": "milvus", "prefect_api_url": "prefect"}
    taken = [field for field, part in parts.items() if (url := getattr(env, field)) and url == own.url(part)]
    return env.model_copy(update=dict.fromkeys(taken))


def prefect_environment(env: Environment, state: State) -> dict[str, str]:
    """Return the variables under which Prefect's commands and our flows run.

    With them Prefect keeps everything under the home folder. The user's own ~/.prefect and profile are neither read
    nor written. PREFECT_API_URL is the configured address or that of the embedded server, and is left out without
    either. Call ``load`` before putting these into ``os.environ``. Otherwise the embedded server would look
    configured.
    """
    folder = env.home / "prefect"
    variables = {
        "PREFECT_HOME": str(folder),
        "PREFECT_PROFILES_PATH": str(folder / "profiles.toml"),
        # This profile ships with Prefect. A profile that the user selected would not be in our profiles file.
        "PREFECT_PROFILE": "ephemeral",
        # Otherwise Prefect would silently start a server inside each command when no address is set.
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
        "DO_NOT_TRACK": "1",
        "SCARF_NO_ANALYTICS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PREFECT_API_KEY": "",
        "PREFECT_API_AUTH_STRING": "",
        "LOCKSTEP_HOME": str(env.home),
        "BUCKET": env.bucket,
        "PREFIX": env.prefix,
        "COLLECTION_NAME": env.collection_name,
        "EMBED_MODEL_NAME": env.embed_model_name,
        **_no_proxy_for_local(),
    }
    if api_url := env.prefect_api_url or state.url("prefect"):
        variables["PREFECT_API_URL"] = api_url
    key = env.prefect_api_key if env.prefect_api_url else None
    secrets = {"PREFECT_API_KEY": key, "PREFECT_API_AUTH_STRING": prefect_auth(env, state)}
    return variables | {name: secret.get_secret_value() for name, secret in secrets.items() if secret}


def service_environment(env: Environment) -> dict[str, str]:
    """Return the variables of the service that are set, here or in ``.env``, which its process does not read."""
    given = {
        "LOCKSTEP_FRAME_ORIGINS": env.frame_origins,
        "LOCKSTEP_PUBLIC_URL": env.public_url,
        "LOCKSTEP_RATE_LIMIT": env.rate_limit,
        "LOCKSTEP_REDIS_URL": plain(env.redis_url),
        "LOCKSTEP_WATCH_TOKEN": plain(env.watch_token),
        "OTEL_EXPORTER_OTLP_ENDPOINT": env.otel_endpoint,
    }
    return {name: value for name, value in given.items() if value}


def watcher_environment(env: Environment) -> dict[str, str]:
    """Return the variables of the watcher that are set, here or in ``.env``, which its process does not read."""
    given = {
        "LOCKSTEP_WATCH_POLL_SECONDS": f"{env.polls_seconds:g}",
        "LOCKSTEP_WATCH_POLL_SHARE": f"{env.watch_poll_share:g}",
        "LOCKSTEP_WATCH_LAG_SECONDS": f"{env.watch_lag_seconds:g}",
        "LOCKSTEP_WATCH_SQS_URL": env.watch_sqs_url,
        "LOCKSTEP_WATCH_REDIS_URL": plain(env.watch_redis_url),
        "LOCKSTEP_WATCH_REDIS_KEY": env.watch_redis_key,
    }
    return {name: value for name, value in given.items() if value}


def prefect_auth(env: Environment, state: State) -> SecretStr | None:
    """Return user:password for Prefect: the environment's for a configured server, else the embedded server's."""
    if env.prefect_api_url:
        return env.prefect_api_auth_string
    return SecretStr(state.prefect_auth) if state.prefect_auth else None


def plain(secret: SecretStr | None) -> str | None:
    """Return the value of a secret, or None."""
    return secret.get_secret_value() if secret else None


def inherit(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of a child process: ours, overridden by ``variables``.

    The tools beside this Python come first on PATH. RCLONE_* is left out: those variables are flags for the
    user's own rclone and would change the behaviour of the embedded S3.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{own.get('PATH', os.defpath)}"
    return {name: value for name, value in {**own, "PATH": path, **variables}.items() if _counts(name, value)}


def _given() -> dict[str, str]:
    merged = {**dotenv_values(".env", encoding="utf-8"), **os.environ}
    return {name: value for name, value in merged.items() if value}


def _names(model: type[BaseModel]) -> dict[str, str]:
    """Return a mapping from variable to field, for the fields that are read from a variable."""
    aliases = {str(field.validation_alias): name for name, field in model.model_fields.items()}
    return {alias: name for alias, name in aliases.items() if alias != "None"}


def _settings_names() -> dict[str, str]:
    from blocks.settings import Settings

    return {f"{OVERRIDE}{name.upper()}": name for name in Settings.model_fields}


def _refuse_unknown(given: Mapping[str, str]) -> None:
    known = {*_names(Environment), *_settings_names()}
    wrong: list[str] = []
    for name in sorted(given.keys() - known):
        if name.startswith(OVERRIDE):
            wrong.append(f"{name} is not a setting; {_meant(name.removeprefix(OVERRIDE))}")
        elif not name.startswith(OF_OTHERS):
            near = difflib.get_close_matches(name, known, n=1, cutoff=NEARLY)
            wrong += [f"{name} is not a setting; did you mean {one}?" for one in near]
    if wrong:
        raise MisuseError("\n".join(wrong))


def _meant(end: str) -> str:
    """Return the setting that LOCKSTEP_<end> was probably meant to be, or all possible ones."""
    own = {name for name in _names(Environment) if name.startswith(OVERRIDE)}
    ends = sorted(name.removeprefix(OVERRIDE) for name in {*own, *_settings_names()})
    near = difflib.get_close_matches(end, ends, n=1)
    if near:
        return f"did you mean {OVERRIDE}{near[0]}?"
    return f"after {OVERRIDE}, use one of {', '.join(ends)}."


def _overrides(given: Mapping[str, str]) -> dict[str, Any]:
    names = {variable: name for variable, name in _settings_names().items() if variable in given}
    if not names:
        return {}
    from blocks.settings import Settings

    try:
        settings = Settings(**{name: given[variable] for variable, name in names.items()})
    except ValidationError as error:
        raise MisuseError(_explain(error, Settings, given)) from None
    return {name: getattr(settings, name) for name in names.values()}


def _explain(error: ValidationError, model: type[BaseModel], given: Mapping[str, str]) -> str:
    """Return a message for the first error."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    field = model.model_fields.get(_names(model).get(name, name))
    variable = name if name in given else f"{OVERRIDE}{name.upper()}"
    expected = (field.description if field else None) or first["msg"]
    if field and "SecretStr" in str(field.annotation):
        return f"{variable} is invalid. Expected: {expected}."
    if model is Environment:
        return f"{variable} is {given.get(variable)!r}. Expected: {expected}."
    problem = first["msg"].replace("Input should", "it should")
    return f"{variable} is {given.get(variable)!r}, but {problem}. Its meaning: {expected}"


def _no_proxy_for_local() -> dict[str, str]:
    """Return NO_PROXY with this machine added, since a company's proxy cannot reach the embedded parts."""
    old = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    hosts = dict.fromkeys([*filter(None, old.split(",")), "127.0.0.1", "localhost"])
    return {"NO_PROXY": ",".join(hosts), "no_proxy": ",".join(hosts)}


def enter(variables: Mapping[str, str]) -> None:
    """Set ``variables`` in this process. Call this before Prefect is imported."""
    for name, value in variables.items():
        if _counts(name, value):
            os.environ[name] = value
        else:
            os.environ.pop(name, None)


def _counts(name: str, value: str) -> bool:
    """Return whether to set a variable. Empty credentials are left out, since Prefect would use them."""
    return bool(value) or name not in ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING")
