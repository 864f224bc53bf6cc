"""Tables of `upres tune`, made by hand."""

from upres.engine.models import tuned
from upres.engine.models.tuned import Choice, Row, Table

X2 = "realesr-animevideov3-x2"
EXACT = "ONNX Runtime 0 CPU fp32"


def row(runtime="onnxruntime", precision="fp32", tile=1024, *, fps=1.0, psnr=None, report=EXACT):
    return Row(Choice(runtime, precision, tile), report, fps, 1 / fps, 1_000_000, psnr)


def keep(*rows, network=X2, size=(640, 360)):
    """Save a table of these rows as `upres tune` does."""
    return tuned.write(Table(network, *size, rows, {}, tuned.now()))
