"""Sound of live results whose header is written before all of the first fragment was processed."""

import io
from types import SimpleNamespace

import media
import pytest
from fake import Nearest
from live_runs import packets

from upres.engine.encode.options import Encoder
from upres.engine.live.destination import destination
from upres.engine.live.session import LiveRun, open_live
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress


@pytest.mark.parametrize("name", ["out.mkv", "out.mp4"])
def test_a_source_with_long_fragments_keeps_its_sound(tmp_path, name):
    """A stream of fragmented MP4: fragments of four seconds, in which all video precedes all audio."""
    inputs = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10", "-f", "lavfi", "-i", "sine", "-t", 8)
    flags = ("-movflags", "empty_moov+default_base_moof", "-frag_duration", 4_000_000)
    media.ffmpeg(*inputs, "-c:v", "libx264", "-bf", 0, "-g", 10, "-c:a", "aac", *flags, tmp_path / "in.mp4")
    data, running = (tmp_path / "in.mp4").read_bytes(), LiveRun([destination(str(tmp_path / name))])
    encoder = Encoder(preset="ultrafast", fragment="frame", live=True, segment_seconds=0.4)
    with open_live(SimpleNamespace(read=io.BytesIO(data).read)) as reader:
        running.run(reader, Job((Nearest(),), encoder, streamed=True), Progress())
    assert packets(tmp_path / name) == packets(tmp_path / "in.mp4")
