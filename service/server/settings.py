"""Server settings, read from `UPRES_…` environment variables and one TOML file; the environment takes precedence."""

import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import platformdirs
from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from upres.engine.core.errors import SettingsError
from upres.engine.models.catalog import SLUGS
from upres.engine.models.manifest import QUALITIES
from upres.engine.runtime import registry as runtimes
from upres.service.domain.invalid_settings import Environment, invalid_settings
from upres.service.domain.job_logging import Format
from upres.service.domain.policy import LiveLogBounds, Policy
from upres.service.domain.spec import PROFILES, Limits
from upres.service.execution.pull.puller import PORTS

OTHERS = frozenset({"UPRES_CACHE", "UPRES_KEY", "UPRES_MODEL_MIRROR", "UPRES_RANDOM_WEIGHTS", "UPRES_SERVER"})
"""Variables of other commands."""
NEARLY = 0.8  # minimum similarity by difflib to suggest a setting
SECRET = frozenset({"api_key", "database", "live_sources", "results", "store"})  # they are, or contain, passwords
EVERYWHERE = ("0.0.0.0", "::")

HOSTED_UPLOAD = 52_428_800  # bytes
HOUR, WEEK = 3600.0, 7 * 86400.0  # seconds

Bytes = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]


def _one_of(names: Callable[[], Collection[str]]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in names():
            raise ValueError(f"must be one of {', '.join(names())}")
        return value

    return AfterValidator(check)


Profile = Annotated[str, _one_of(lambda: PROFILES)]
Runtime = Annotated[str, _one_of(runtimes.names)]
PRELOAD = re.compile(r"([\w.-]+)@[1-9]\d{0,4}x[1-9]\d{0,4}")


def _preload(value: str) -> str:
    match = PRELOAD.fullmatch(value)
    if match is None or match[1] not in SLUGS:
        raise ValueError(f"must be MODEL@WxH with one of {', '.join(SLUGS)}, such as RealESRGAN_Vid_x2@1280x720")
    return value


def _stream(value: SecretStr) -> SecretStr:
    """Check a stream's URL without showing it, because it may contain a password."""
    try:
        url = urlsplit(value.get_secret_value())
        known = bool(url.hostname and url.scheme in PORTS and (url.port or PORTS[url.scheme]))
    except ValueError:  # an invalid IPv6 address in brackets, or a port that is not a number
        known = False
    if not known:
        raise ValueError(
            f"must be a URL of {', '.join(PORTS)} with a host, such as rtsp://user:password@camera/stream; tcp with a port"
        )
    return value


Stream = Annotated[SecretStr, AfterValidator(_stream)]
StreamName = Annotated[str, Field(pattern=r"^\w[\w .-]{0,63}$")]
Preload = Annotated[str, AfterValidator(_preload)]
Quality = Annotated[str, _one_of(lambda: QUALITIES)]


class Settings(BaseSettings):
    """One server's settings. Sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="UPRES_", extra="forbid")

    state: Path = Field(default_factory=lambda: platformdirs.user_data_path("upres"), description="folder for state")
    database: str | None = Field(
        None,
        description="postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///FILE; default: a file in the state folder",
    )
    store: str | None = Field(
        None,
        description="folder or object-store URL (s3://…) for sources and logs of jobs, so that servers with the same database need"
        " no shared folder: each server then has its own `state`; default: the state folder",
    )
    results: str | None = Field(
        None, description="folder or object-store URL for results; default: in `store` if set, else in the state folder"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    http_port: int = Field(8080, ge=0, le=65535, description="port for HTTP; 0 selects any free port")
    grpc_port: int = Field(8081, ge=0, le=65535, description="port for gRPC; 0 selects any free port")
    peer_host: str | None = Field(
        None,
        description="host name or address at which other servers with the same database reach this one; default: `host`, or if that"
        " means all interfaces, the local address of the connection to the database",
    )
    peer_ca: Path | None = Field(
        None,
        description="PEM file of the authority that signed the certificates of other servers; default: any public one",
    )
    public_url: str | None = Field(
        None, description="URL at which clients reach the HTTP API; default: the address that each request was sent to"
    )
    trusted_proxies: list[str] = Field(
        default_factory=list, description="proxies (addresses, networks) whose X-Forwarded-… headers are trusted"
    )
    request_seconds: Seconds = Field(20.0, description="longest time to receive the headers of a request")
    tls_certificate: Path | None = Field(None, description="PEM file with the certificate chain; enables TLS")
    tls_key: Path | None = Field(None, description="PEM file with the private key of the certificate")
    api_key: SecretStr | None = Field(None, description="API key with the name `default`")
    executor: str = Field(
        "local", description="where attempts run: local, or ray (several machines); other packages can add more"
    )
    workers: int | None = Field(
        None, ge=0, description="worker processes on each node; default: one for each GPU that the runtime uses, or one"
    )
    slots: int = Field(4, ge=1, description="attempts that run on a device at the same time")
    job_memory_bytes: int | None = Field(
        None,
        gt=0,
        description="memory for all jobs on a node together; further jobs wait. Default: 90 % of what is free at startup",
    )
    live_slots: int = Field(1, ge=0, description="live jobs on a device at the same time; more are rejected")
    runtime: Runtime = Field("auto", description=f"runtime for the models: {', '.join(runtimes.names())}")
    quality: Quality = Field("high", description=f"precision of the models: {', '.join(QUALITIES)}")
    preload: list[Preload] = Field(
        default_factory=list,
        description="models and frame sizes to prepare at startup, for example RealESRGAN_Vid_x2@1280x720",
    )
    nvenc: bool = Field(
        False, description="encode 8-bit H.264 and HEVC with NVENC if available at startup; not tested on a GPU yet"
    )
    models: str = Field("upres.service.execution.worker:load", description="module:function that loads a model")
    queue: int = Field(256, ge=1, description="jobs that may wait; at most half of them may belong to one key")
    limits: Profile = Field(
        "none",
        description="limits for clients: none, or deapi (the hosted API's: clips of 15 s (x4), 30 s (x2) and 10 s (FlashVSR), "
        "uploads of 52,428,800 bytes, one hour per job); settings for single limits override it",
    )
    upload_bytes: Bytes | None = Field(
        None, description="largest upload over HTTP; default: `source_bytes`, or the value that `limits` sets"
    )
    source_bytes: Bytes = Field(2 << 30, description="largest source over gRPC")
    clip_seconds: dict[str, Seconds] = Field(
        default_factory=dict, description="longest clip for each model; overrides `limits`"
    )
    job_seconds: Seconds | None = Field(
        None, description="longest time for one attempt of a job; default: one week, or the value that `limits` sets"
    )
    live_seconds: Seconds | None = Field(None, description="longest duration of a live source; default: no limit")
    live_sources: dict[StreamName, Stream] = Field(
        default_factory=dict,
        description="rtsp, rtmp or tcp URLs of streams that the server pulls, by name; clients see only names",
    )
    live_log_seconds: Seconds = Field(10.0, description="duration of live output that is kept for readers")
    live_log_bytes: Bytes = Field(
        64 << 20, ge=1 << 20, description="the same in bytes of memory; the smaller limit applies"
    )
    decoder_bytes: Bytes = Field(16 << 30, description="memory that the process of one attempt may use")
    free_bytes: Bytes = Field(1 << 30, description="free disk space to keep; below it new jobs are rejected")
    source_idle_seconds: Seconds = Field(
        60.0, description="longest time that a sender may pause, or that a live client may stop reading"
    )
    grace_seconds: Seconds = Field(20.0, description="time for running jobs to finish after SIGTERM")
    result_url_seconds: Seconds = Field(3600.0, description="validity of a link to a result")
    keep_seconds: Seconds = Field(WEEK, description="how long finished jobs and their results are kept")
    requests_per_minute: int = Field(600, ge=1, description="rate limit of each key")
    requests_per_day: int = Field(100_000, ge=1, description="daily limit of each key")
    ping_seconds: Seconds = Field(30.0, description="interval between pings on a progress socket")
    webhook_hosts: list[str] = Field(default_factory=list, description="private hosts that webhooks may be sent to")
    log_format: Format | None = Field(None, description="json or text; default: text on a terminal, otherwise json")
    allow_unconfined: bool = Field(
        False, description="accept remote clients even if the system cannot sandbox the processes that open their media"
    )
    cors_origins: list[str] = Field(
        default_factory=list, description="origins whose pages may call the API, such as https://app.example; * for any"
    )
    webhook_http: bool = Field(False, description="allow webhooks over unencrypted http")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources by precedence: arguments, then the environment, then the file."""
        return init_settings, Environment(settings_cls), TomlConfigSettingsSource(settings_cls)

    def address(self, port: int) -> str:
        """Return the listening address in the form used in URLs."""
        return joined(self.host, port)

    def local_url(self, port: int) -> str:
        """Return the base URL for links on this machine: `localhost` if the server listens on all interfaces."""
        return (
            f"{self.scheme}://localhost:{port}" if self.host in EVERYWHERE else f"{self.scheme}://{self.address(port)}"
        )

    @property
    def scheme(self) -> str:
        """The URL scheme of the HTTP endpoint."""
        return "https" if self.tls_certificate else "http"

    @property
    def largest_upload(self) -> int:
        """The maximum size of an upload over HTTP in bytes."""
        if self.upload_bytes is not None:
            return self.upload_bytes
        return HOSTED_UPLOAD if self.limits == "deapi" else self.source_bytes

    @property
    def policy(self) -> Policy:
        """The settings that apply to jobs."""
        return Policy(
            Limits(
                self.source_bytes,
                {**PROFILES[self.limits], **self.clip_seconds},
                http_webhooks=self.webhook_http,
                live_seconds=self.live_seconds,
                live_segment_seconds=self.live_log_seconds / 2,
                live_sources=tuple(self.live_sources),
            ),
            queue=self.queue,
            wall_seconds=self.job_seconds or (HOUR if self.limits == "deapi" else WEEK),
            memory_bytes=self.decoder_bytes,
            source_idle_seconds=self.source_idle_seconds,
            free_bytes=self.free_bytes,
            live_log=LiveLogBounds(self.live_log_bytes, self.live_log_seconds),
        )

    @property
    def several_servers(self) -> bool:
        """Whether other servers may use the same database."""
        return self.database_url.startswith("postgresql")

    @property
    def database_url(self) -> str:
        """The URL of the database."""
        return self.database or f"sqlite:///{self.state / 'upres.db'}"

    @property
    def results_url(self) -> str:
        """The folder or URL of the results."""
        return self.results or (f"{self.store.rstrip('/')}/results" if self.store else str(self.state / "results"))

    @property
    def jobs_url(self) -> str | None:
        """The URL that jobs are kept at; None if they are kept in their folders only."""
        return f"{self.store.rstrip('/')}/jobs" if self.store else None


def joined(host: str, port: int) -> str:
    """Return an address and a port in the form used in URLs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def mistyped(environment: Iterable[str]) -> list[str]:
    """Return a hint for each variable that is similar to a setting's; other UPRES_ variables may belong to another program."""
    known = {f"UPRES_{name.upper()}" for name in Settings.model_fields} | OTHERS
    unknown = [name for name in environment if name.upper().startswith("UPRES_") and name.upper() not in known]
    meant = [(name, get_close_matches(name.upper(), known, 1, NEARLY)) for name in unknown]
    return [f"{name} is not a setting; did you mean {near[0]}?" for name, near in meant if near]


def load(file: Path | None = None, **values: Any) -> Settings:  # noqa: ANN401 - checked by pydantic
    """Read settings from the environment, a TOML file, and values that precede both; SettingsError lists every invalid one."""

    class Configured(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    if file is not None and not file.is_file():
        raise SettingsError(f"{file}: no such file")
    try:
        return Configured(**values)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: is not TOML: {error}") from error
    except ValidationError as error:
        messages = invalid_settings(error, values, os.environ, file, SECRET)
        if any(problem["type"] == "extra_forbidden" for problem in error.errors()):
            messages.append(f"the settings are {', '.join(Settings.model_fields)}")
        raise SettingsError("; ".join(messages)) from error
