"""What an operator sets: by `UPRES_…` in the environment, or in one TOML file; the environment wins."""

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
from upres.service.domain.job_logging import Format
from upres.service.domain.policy import LiveLogBounds, Policy
from upres.service.domain.spec import PROFILES, Limits
from upres.service.execution.pull.puller import PORTS

OTHERS = frozenset({"UPRES_CACHE", "UPRES_KEY", "UPRES_MODEL_MIRROR", "UPRES_RANDOM_WEIGHTS", "UPRES_SERVER"})
"""Variables of other commands."""
NEARLY = 0.8  # of difflib's likeness
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
        raise ValueError(f"must be MODEL@WxH with one of {', '.join(SLUGS)}, as RealESRGAN_Vid_x2@1280x720")
    return value


def _stream(value: SecretStr) -> SecretStr:
    """Check a stream's URL without showing it, since it may hold a password."""
    try:
        url = urlsplit(value.get_secret_value())
        known = bool(url.hostname and url.scheme in PORTS and (url.port or PORTS[url.scheme]))
    except ValueError:  # brackets that are no IPv6 address, or a port that is no number
        known = False
    if not known:
        raise ValueError(
            f"must be a URL of {', '.join(PORTS)} with a host, as rtsp://user:password@camera/stream; tcp with a port"
        )
    return value


Stream = Annotated[SecretStr, AfterValidator(_stream)]
StreamName = Annotated[str, Field(pattern=r"^\w[\w .-]{0,63}$")]
Preload = Annotated[str, AfterValidator(_preload)]
Quality = Annotated[str, _one_of(lambda: QUALITIES)]


class Settings(BaseSettings):
    """One server's settings. Sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="UPRES_", extra="forbid")

    state: Path = Field(default_factory=lambda: platformdirs.user_data_path("upres"), description="folder of all state")
    database: str | None = Field(
        None,
        description="postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///FILE; a file in the state folder by default",
    )
    store: str | None = Field(
        None,
        description="folder or object-store URL (s3://…) where jobs are kept, so that servers of one database share no folder:"
        " `state` is then each server's own; by default jobs are kept in the state folder",
    )
    results: str | None = Field(
        None, description="folder or object-store URL (s3://…); in `store`, else in the state folder by default"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    http_port: int = Field(8080, ge=0, le=65535, description="0 takes any free one")
    grpc_port: int = Field(8081, ge=0, le=65535, description="0 takes any free one")
    peer_host: str | None = Field(
        None,
        description="name or address by which servers that share the database reach this one; by default `host`, or where that is"
        " every address, the one that this machine reaches the database from",
    )
    peer_ca: Path | None = Field(
        None, description="PEM of the authority that signed those servers' certificates; by default any public one"
    )
    public_url: str | None = Field(None, description="how clients reach HTTP; by default as the request came that asks")
    trusted_proxies: list[str] = Field(
        default_factory=list, description="addresses or networks of proxies whose X-Forwarded-… headers are believed"
    )
    request_seconds: Seconds = Field(20.0, description="the longest that a connection waits for the head of a request")
    tls_certificate: Path | None = Field(
        None, description="PEM, with what it was signed by; HTTP and gRPC then speak TLS"
    )
    tls_key: Path | None = Field(None, description="PEM; of the certificate")
    api_key: SecretStr | None = Field(None, description="the key named `default`")
    executor: str = Field(
        "local", description="what runs attempts: local, or ray (several machines); more can be installed"
    )
    workers: int | None = Field(
        None,
        ge=0,
        description="worker processes, on each node; by default one for each GPU that the runtime uses, or one",
    )
    slots: int = Field(4, ge=1, description="attempts that share a device")
    job_memory_bytes: int | None = Field(
        None,
        gt=0,
        description="memory that jobs may take together, on each node; others wait. By default 90 % of what is free at start",
    )
    live_slots: int = Field(1, ge=0, description="live jobs that share a device; more are refused until one ends")
    runtime: Runtime = Field("auto", description=f"what runs the models: {', '.join(runtimes.names())}")
    quality: Quality = Field("high", description=f"of the models' arithmetic: {' or '.join(QUALITIES)}")
    preload: list[Preload] = Field(
        default_factory=list,
        description="sizes that models are made ready for at start, as RealESRGAN_Vid_x2@1280x720",
    )
    nvenc: bool = Field(
        False, description="an NVIDIA GPU encodes 8-bit H.264 and HEVC, if NVENC opens at start; not tried on a GPU yet"
    )
    models: str = Field("upres.service.execution.worker:load", description="module:function that loads a model")
    queue: int = Field(256, ge=1, description="jobs that may wait, half of them of one key")
    limits: Profile = Field(
        "none",
        description="of what clients send: none, or deapi, the hosted API's: clips of 15 s (x4), 30 s (x2) and 10 s (FlashVSR), "
        "uploads of 52,428,800 bytes, an hour a job; settings of single limits go before it",
    )
    upload_bytes: Bytes | None = Field(
        None, description="largest video that is uploaded over HTTP; by default as source_bytes, or as limits say"
    )
    source_bytes: Bytes = Field(2 << 30, description="largest source that is sent over gRPC")
    clip_seconds: dict[str, Seconds] = Field(
        default_factory=dict, description="longest clip by model, in place of what limits say"
    )
    job_seconds: Seconds | None = Field(
        None, description="longest that one attempt of a job may take; by default a week, or as limits say"
    )
    live_seconds: Seconds | None = Field(None, description="longest live source; without a limit by default")
    live_sources: dict[StreamName, Stream] = Field(
        default_factory=dict,
        description="streams that the server pulls for clients, who see the names alone: URLs of rtsp, rtmp or tcp by name",
    )
    live_log_seconds: Seconds = Field(10.0, description="how much of a live log can be read again")
    live_log_bytes: Bytes = Field(64 << 20, ge=1 << 20, description="likewise, in bytes of memory; whichever is less")
    decoder_bytes: Bytes = Field(16 << 30, description="memory that the process of one attempt may use")
    free_bytes: Bytes = Field(1 << 30, description="disk that stays free; new jobs are refused below it")
    source_idle_seconds: Seconds = Field(
        60.0, description="longest that a sender may pause, and that a live client may not read"
    )
    grace_seconds: Seconds = Field(20.0, description="time for running jobs to end after SIGTERM")
    result_url_seconds: Seconds = Field(3600.0, description="how long a link to a result is valid")
    keep_seconds: Seconds = Field(WEEK, description="how long ended jobs and their results are kept")
    requests_per_minute: int = Field(600, ge=1, description="by key")
    requests_per_day: int = Field(100_000, ge=1, description="by key")
    ping_seconds: Seconds = Field(30.0, description="between two pings of a progress socket")
    webhook_hosts: list[str] = Field(default_factory=list, description="private hosts that webhooks may go to")
    log_format: Format | None = Field(None, description="json or text; by default text on a terminal, else json")
    allow_unconfined: bool = Field(
        False, description="serve others although processes that open their media keep the network"
    )
    cors_origins: list[str] = Field(
        default_factory=list, description="origins whose pages may call the API, as https://app.example; * for any"
    )
    webhook_http: bool = Field(False, description="webhooks may go over http")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: arguments, then the environment, then the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    def address(self, port: int) -> str:
        """Give where to listen, as it stands in a URL."""
        return joined(self.host, port)

    def local_url(self, port: int) -> str:
        """Give the base of links that work on this machine: an address of all interfaces cannot be called."""
        return (
            f"{self.scheme}://localhost:{port}" if self.host in EVERYWHERE else f"{self.scheme}://{self.address(port)}"
        )

    @property
    def scheme(self) -> str:
        """Give what HTTP is spoken over."""
        return "https" if self.tls_certificate else "http"

    @property
    def largest_upload(self) -> int:
        """Give the bytes that may be uploaded over HTTP."""
        if self.upload_bytes is not None:
            return self.upload_bytes
        return HOSTED_UPLOAD if self.limits == "deapi" else self.source_bytes

    @property
    def policy(self) -> Policy:
        """Give the part that jobs keep to."""
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
        """Report whether the database is one that other servers may reach."""
        return self.database_url.startswith("postgresql")

    @property
    def database_url(self) -> str:
        """Give where the rows are."""
        return self.database or f"sqlite:///{self.state / 'upres.db'}"

    @property
    def results_url(self) -> str:
        """Give where the results are."""
        return self.results or (f"{self.store.rstrip('/')}/results" if self.store else str(self.state / "results"))

    @property
    def jobs_url(self) -> str | None:
        """Give where jobs are kept; None where that is their folders."""
        return f"{self.store.rstrip('/')}/jobs" if self.store else None


def joined(host: str, port: int) -> str:
    """Write an address and a port as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def mistyped(environment: Iterable[str]) -> list[str]:
    """Name variables that are nearly a setting's, each with that one. All else that begins so may be for another program."""
    known = {f"UPRES_{name.upper()}" for name in Settings.model_fields} | OTHERS
    unknown = [name for name in environment if name.upper().startswith("UPRES_") and name.upper() not in known]
    meant = [(name, get_close_matches(name.upper(), known, 1, NEARLY)) for name in unknown]
    return [f"{name} is no setting; did you mean {near[0]}?" for name, near in meant if near]


def load(file: Path | None = None, **values: Any) -> Settings:  # noqa: ANN401 - checked by pydantic
    """Read settings from the environment, a TOML file, and values that go before both; SettingsError names every wrong one."""

    class Configured(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    if file is not None and not file.is_file():
        raise SettingsError(f"{file}: there is no such file")
    try:
        return Configured(**values)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: is not TOML: {error}") from error
    except ValidationError as error:
        problems = error.errors(include_url=False)
        messages = [
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in problems
        ]
        if any(problem["type"] == "extra_forbidden" for problem in problems):
            messages.append(f"the settings are {', '.join(Settings.model_fields)}")
        raise SettingsError("; ".join(messages)) from error
