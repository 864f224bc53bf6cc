"""The process of a probe: inspects one uploaded source, which may crash it. `probe` starts it."""

from dataclasses import asdict, dataclass
from typing import Any

from upres.engine.core.errors import UpresError
from upres.engine.decode.reader import Reader
from upres.engine.pipeline.advice import describe, measure
from upres.service.domain.checks import check_source
from upres.service.domain.spec import FORMATS, Limits, Spec
from upres.service.execution.attempt.activity import ReadAhead
from upres.service.execution.sandbox.confinement import confine
from upres.service.execution.sandbox.limits import Bounds, name_process

SECONDS = 10.0
BOUNDS = Bounds(memory_bytes=1 << 30, cpu_seconds=round(SECONDS), file_bytes=0)


@dataclass(frozen=True, slots=True)
class Facts:
    """Properties of a source. frames: 0 if the container does not state the number."""

    width: int
    height: int
    frames: int


def run(*, path: str, spec: dict[str, Any], limits: dict[str, Any], measured: bool = False) -> dict[str, Any]:
    """Return `facts` about a source, or `error` and `text` if it cannot be used.

    measured: also return its `clip`, the properties on which advice is based.
    """
    name_process("upres-probe")
    with open(path, "rb") as file:  # noqa: PTH123 - opened without its name, which messages must not contain
        confine(BOUNDS)
        try:
            job_spec = Spec.from_json(spec)
            with Reader(ReadAhead(file), formats=FORMATS, tonemap=job_spec.tonemap, eight_bits=None) as reader:
                info = reader.info
                check_source(info, job_spec, Limits(**limits))
                frames = info.frames or round((info.seconds or 0) * info.shape.rate)
                facts = asdict(Facts(info.shape.width, info.shape.height, frames))
                if not measured:
                    return {"facts": facts}
                return {"facts": facts, "clip": asdict(describe(info, measure(reader), job_spec.content))}
        except UpresError as error:
            return {"error": type(error).__name__, "text": str(error)}
