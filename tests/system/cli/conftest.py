"""The command line in this process, and a small clip for it."""

import sys

import av
import numpy as np
import pytest

from upres.service.cli.main import main


@pytest.fixture
def upres(monkeypatch, capfd):
    """Run the command line; return exit code, stdout and stderr."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["upres", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capfd.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return call


@pytest.fixture
def tiny(tmp_path):
    """Make a clip of twelve 48x32 frames with uneven times and no sound."""
    path = tmp_path / "tiny.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, width=48, height=32, pix_fmt="yuv420p", options={"qp": "0"})
        picture = np.random.default_rng(1).integers(0, 255, (8, 12, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
        for number in range(12):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(picture, number, 1), format="rgb24")))
        output.mux(stream.encode(None))
    return path
