"""Sources in 4:2:0 stay planar through a model that converts colors itself; all others are converted to RGB."""

from dataclasses import replace

import media
import numpy as np
import pytest
import referee
from fake import job
from planar import queued, repeating

from upres.engine.api import stream, upscale
from upres.engine.core.errors import LogError
from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder
from upres.engine.models import manifest
from upres.engine.models.per_frame import PerFrameModel
from upres.engine.pipeline import frames
from upres.engine.pipeline.options import fitted
from upres.engine.pipeline.progress import Progress
from upres.engine.runtime.ring.host import HostDevice

pytestmark = pytest.mark.referee

H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", 5)
EXACT = Encoder("h264", crf=0, segment_seconds=0.4)  # lossless in x264


@pytest.fixture(scope="module")
def graph():
    return repeating()


class InRGB(PerFrameModel):
    """A model whose device cannot convert colors."""

    def on_planes(self, layout, width, height):
        return None


def on_device(graph, kind=PerFrameModel):
    facts = replace(manifest.find("realesr-live-x2")[1], halo=1)
    return kind(queued(graph, HostDevice(1)), facts, tile_memory=40 * 40 * facts.bytes_per_pixel)


def planes(path):
    width, height = referee.size(path)
    data = media.ffmpeg("-i", path, "-map", "0:v:0", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-")
    return np.frombuffer(data, np.uint8).reshape(-1, height * 3 // 2, width)


def test_a_clip_whose_planes_a_model_takes_is_never_rgb_on_the_host_and_the_same_clip(tmp_path, graph, monkeypatch):
    source = media.clip(tmp_path / "in.mp4", *H264, picture=media.SMOOTH)
    plain = PerFrameModel(graph, manifest.find("realesr-live-x2")[1])
    upscale(source, tmp_path / "rgb.mp4", job(tmp_path / "rgb.mp4", plain, encoder=EXACT))
    monkeypatch.setattr(frames, "ToRGB", None)
    progress = upscale(source, tmp_path / "out.mp4", job(tmp_path / "out.mp4", on_device(graph), encoder=EXACT))
    planar, in_rgb = planes(tmp_path / "out.mp4"), planes(tmp_path / "rgb.mp4")
    assert planar.shape == in_rgb.shape == (10, 144, 128) and progress.frames_out == 10
    assert abs(planar.astype(int) - in_rgb).max() <= 1
    assert referee.streams(tmp_path / "out.mp4", "video")[0]["pix_fmt"] == "yuv420p"


def test_a_log_of_planes_is_not_continued_in_rgb(tmp_path, graph):
    source, target, progress = media.clip(tmp_path / "in.mp4", *H264), tmp_path / "out.mp4", Progress()

    def end():
        if progress.frames_out == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale(source, target, job(target, on_device(graph), encoder=EXACT), progress=progress, tick=end)
    with pytest.raises(LogError, match="other settings"):
        upscale(source, target, job(target, on_device(graph, InRGB), encoder=EXACT), resume=True)
    upscale(source, target, job(target, on_device(graph), encoder=EXACT), resume=True)
    upscale(source, tmp_path / "once.mp4", job(target, on_device(graph), encoder=EXACT))
    assert target.read_bytes() == (tmp_path / "once.mp4").read_bytes()


CASES = {
    "it is": ((*H264,), {}, {}, True),
    "as full range": (("-c:v", "mjpeg", "-pix_fmt", "yuvj420p"), {}, {}, True),
    "4:4:4": (("-c:v", "ffv1", "-pix_fmt", "yuv444p"), {}, {}, False),
    "10 bits": (("-c:v", "ffv1", "-pix_fmt", "yuv420p10le"), {}, {"codec": "vp9", "crf": 30}, False),
    "pre-filtered": ((*H264,), {"prefilters": ("denoise",)}, {}, False),
    "lossless": ((*H264,), {}, {"codec": "lossless"}, False),
    "resampled": ((*H264,), {}, {"height": 60}, False),
    "encoded otherwise": ((*H264,), {}, {"codec": "ffv1"}, False),
}


@pytest.mark.parametrize("case", CASES)
def test_planes_are_taken_where_nothing_else_changes_them(tmp_path, graph, case):
    arguments, settings, encoder, planar = CASES[case]
    source = media.clip(tmp_path / "in.mkv", *arguments)
    with Reader(source, eight_bits=None) as reader:
        whole = job(tmp_path / "out.mkv", on_device(graph), encoder=Encoder(**encoder))
        assert fitted(replace(whole, **settings), reader).planar is planar
        assert not fitted(replace(whole, **settings), reader, images=True).planar


def test_a_stream_of_planes_is_as_long_as_its_source(tmp_path, graph):
    source = media.clip(tmp_path / "in.mp4", *H264)
    pieces = list(stream(source, job(tmp_path / "out.mp4", on_device(graph), encoder=EXACT)))
    assert sum(fragment.frames for _, fragment, _ in pieces) == 10
