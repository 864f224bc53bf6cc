"""Properties of a source that its container declares."""

import struct
from fractions import Fraction

import media
import pytest
import referee
from fake import Nearest, upscaled

from upres.engine.decode.reader import Reader

FRAMES = 5


@pytest.fixture
def avi(tmp_path):
    """A function that makes an AVI whose header declares the time base scale / rate."""
    picture = f"testsrc2=size=32x32:rate=10:duration={FRAMES / 10}"
    data = media.clip(tmp_path / "ten.avi", "-c:v", "mpeg4", "-an", picture=picture).read_bytes()

    def make(scale, rate):
        at = data.index(b"strh") + 8 + 20
        assert struct.unpack_from("<2I", data, at) == (1, 10)
        path = tmp_path / "in.avi"
        path.write_bytes(data[:at] + struct.pack("<2I", scale, rate) + data[at + 8 :])
        return path

    return make


@pytest.mark.parametrize(
    ("scale", "rate"), [(28, 967_980_219), (6, 100_000_001), (7, 40_000_001), (3, 2_000_000_011), (999, 25_000_003)]
)
def test_a_time_base_with_large_numbers_is_rounded_and_never_to_zero(avi, tmp_path, scale, rate):
    source = avi(scale, rate)
    with Reader(source) as reader:
        time_base = reader.info.shape.time_base
    assert time_base == pytest.approx(Fraction(scale, rate), rel=1e-6)
    assert time_base.numerator == 1 or time_base.denominator <= 10_000_000
    progress = upscaled(source, tmp_path / "out.mp4", Nearest(2))
    times = [frame * scale / rate for frame in range(FRAMES)]
    assert progress.frames_out == FRAMES
    assert referee.packets(tmp_path / "out.mp4") == pytest.approx(times, rel=1e-6)
