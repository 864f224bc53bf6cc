"""The command `upres export FlashVSR_Tiny`."""

from dataclasses import dataclass
from pathlib import Path

from upres.engine.core.errors import ModelError, SettingsError
from upres.engine.models.flashvsr.manifest import Attention, Precision, Version, folder_of

SLUG = "FlashVSR_Tiny"
NETWORK = "flashvsr-v1.1-tiny"


@dataclass(frozen=True, slots=True)
class Request:
    """The options. weights: the folder of the weight files. acceptance: the folder of a report on a real clip."""

    weights: Path | None
    version: Version | None = None
    precision: Precision = "fp32"
    attention: Attention = "exact"
    verify: bool = False
    acceptance: Path | None = None
    clip: Path | None = None


def export(request: Request, out: Path | None) -> str:
    """Export, or export and check acceptance; returns the line to print.

    Raises SettingsError listing every missing or conflicting option, and ModelError if the export is not accepted.
    """
    problems = [] if request.weights else [f"upres export {SLUG} needs --weights DIR, the folder of its weight files"]
    if (request.acceptance is None) != (request.clip is None):
        problems.append("--acceptance DIR and --clip FILE must be given together")
    if request.acceptance and (request.precision, request.attention, request.verify) != ("fp32", "exact", False):
        problems.append("--acceptance checks fp32 with exact attention; remove --precision, --attention and --verify")
    if request.weights is None or problems:
        raise SettingsError("; ".join(problems))
    try:
        from .exporter import accept_flashvsr, export_flashvsr
        from .graphs.settings import Settings
    except ModuleNotFoundError as error:
        raise ModelError(
            f"exporting FlashVSR needs {error.name}, which is not installed; install it with: pip install 'upres[export]'"
        ) from error
    folder = out or folder_of(NETWORK, request.precision)
    if request.acceptance and request.clip:
        judgement = accept_flashvsr(
            request.weights, folder, clip=request.clip, report=request.acceptance, version=request.version
        )
        line = f"passed: {judgement.psnr} dB against PyTorch; see {request.acceptance / 'report.md'}"
        if not judgement.passed:
            raise ModelError(f"NOT {line}")
        return line
    settings = Settings(precision=request.precision, exact=request.attention == "exact")
    manifest = export_flashvsr(
        request.weights, folder, version=request.version, settings=settings, verify=request.verify
    )
    differences = ", ".join(f"{name} {value:.1e}" for name, value in manifest.verified.items())
    return f"{folder} ({f'against PyTorch: {differences}' if differences else 'not verified; use --verify'})"
