"""The same frames and settings give the same bytes, regardless of what earlier encoders left in the process's memory."""

import media
import pytest
from fake import upscaled

from upres.engine.encode.options import Encoder

FLASHES = "color=black:size={}:rate=25:duration=2,geq=lum='if(between(mod(N,25),13,14),235,16)':cb=128:cr=128"
MOVING = "testsrc2=size={}:rate=25:duration=2,scroll=horizontal=-0.03"
REPEATS = 20


@pytest.mark.parametrize("picture", [FLASHES, MOVING])
@pytest.mark.parametrize(("codec", "size"), [("h264", "48x32"), ("hevc", "24x24"), ("lossless", "48x32")])
def test_results_do_not_depend_on_earlier_ones(tmp_path, codec, size, picture):
    clip = media.clip(tmp_path / "in.mkv", "-c:v", "ffv1", picture=picture.format(size))
    results = set()
    for number in range(REPEATS):
        result = tmp_path / f"{number}.mp4"
        upscaled(clip, result, encoder=Encoder(codec, segment_seconds=1))
        results.add(result.read_bytes())
    assert len(results) == 1
