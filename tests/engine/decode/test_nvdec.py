"""NVDEC: its frames equal the CPU's, it is tried before it is used, and the CPU decodes what it does not."""

import av
import media
import pytest
from fake import job
from fake_nvdec import FakeNvdec

from upres.engine.api import prepared, upscale
from upres.engine.core.errors import LogError, SettingsError, SourceError
from upres.engine.decode import container
from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder
from upres.engine.machine import video_engines, video_engines_process
from upres.engine.pipeline.options import Job
from upres.engine.pipeline.progress import Progress

SHORT = Encoder(segment_seconds=0.4)
REFUSED = "NVDEC does not open here: it hangs; without `nvdec` the CPU decodes, and `upres doctor` says what is missing"
SOURCES = {
    "h264": ("in.mp4", "-c:v", "libx264", "-bf", "2", "-pix_fmt", "yuv420p"),
    "interlaced": ("in.mkv", "-c:v", "libx264", "-x264opts", "tff=1", "-pix_fmt", "yuv420p"),
    "full_range": ("in.mp4", "-c:v", "libx264", "-pix_fmt", "yuvj420p"),
    "hevc10": ("in.mkv", "-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p10le"),
    "chroma_422": ("in.mp4", "-c:v", "libx264", "-pix_fmt", "yuv422p"),
    "hevc12": ("in.mkv", "-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p12le"),
}


def clip(folder, kind):
    name, *arguments = SOURCES[kind]
    return media.clip(folder / name, *arguments, picture=media.SMOOTH)


def facts(frame):
    rows = [bytes(plane) for plane in frame.reformat(format="rgb48le").planes]
    return frame.pts, frame.duration, frame.key_frame, frame.pict_type, frame.interlaced_frame, rows


def nvdec_job(target, **settings):
    usual = job(target, **settings)
    return Job(usual.models, usual.encoder, usual.container, nvdec=True)


@pytest.mark.parametrize("kind", ["h264", "interlaced", "full_range", "hevc10", "hevc12"])
def test_its_frames_equal_the_cpus(tmp_path, monkeypatch, kind):
    source = clip(tmp_path, kind)
    fake = FakeNvdec(monkeypatch)
    with Reader(source, eight_bits=None) as reader:
        shape, layout = reader.info.shape, reader.info.layout
        expected = [facts(frame) for frame in reader.frames()]
    assert fake.frames == 0
    with Reader(source, nvdec=True, eight_bits=None) as reader:
        assert (reader.info.shape, reader.info.layout) == (shape, layout) and not reader.warnings
        frames = [facts(frame) for frame in reader.frames()]
    assert fake.frames == len(frames) and frames == expected


def test_a_result_is_the_same_and_is_not_continued_with_the_other_decoder(tmp_path, monkeypatch):
    fake, source, target, progress = FakeNvdec(monkeypatch), clip(tmp_path, "h264"), tmp_path / "gpu.mp4", Progress()
    upscale(source, tmp_path / "cpu.mp4", job(tmp_path / "cpu.mp4", encoder=SHORT))

    def end():
        if progress.frames_out == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale(source, target, nvdec_job(target, encoder=SHORT), progress=progress, tick=end)
    with pytest.raises(LogError, match="other settings"):
        upscale(source, target, job(target, encoder=SHORT), resume=True)
    assert fake.frames > 0
    upscale(source, target, nvdec_job(target, encoder=SHORT), resume=True)
    assert target.read_bytes() == (tmp_path / "cpu.mp4").read_bytes()
    assert "nvdec" not in job(target).settings()  # logs of earlier versions can still be resumed


def test_what_it_does_not_support_is_decoded_by_the_cpu_with_a_note(tmp_path, monkeypatch):
    FakeNvdec(monkeypatch, supports=False)
    with Reader(clip(tmp_path, "h264"), nvdec=True) as reader:
        assert reader.warnings == ["NVDEC does not decode h264 as yuv420p here; the CPU does"]
        assert len(list(reader.frames())) > 1


def test_a_fallback_within_the_decoder_is_noted_too(tmp_path, monkeypatch):
    """FFmpeg asks for a pixel format again if the GPU lacks a codec's profile; the context remains accelerated."""
    FakeNvdec(monkeypatch)
    with Reader(clip(tmp_path, "chroma_422"), nvdec=True) as reader:
        assert reader.warnings == ["NVDEC does not decode h264 as yuv422p here; the CPU does"]


def test_nothing_is_opened_if_nvdec_does_not_open(tmp_path, monkeypatch):
    source, target = clip(tmp_path, "h264"), tmp_path / "out.mp4"
    monkeypatch.setattr(video_engines, "_nvdec_problem", lambda: "it hangs")
    monkeypatch.setattr(container.av, "open", None)
    with pytest.raises(SettingsError) as refused:
        Reader(source, nvdec=True)
    assert str(refused.value) == REFUSED
    with pytest.raises(SettingsError, match="NVDEC does not open"), prepared(source, target, nvdec_job(target)):
        pass
    assert [*tmp_path.iterdir()] == [source]


def test_a_driver_that_fails_after_the_test_is_named(tmp_path, monkeypatch):
    """Without a driver PyAV raises an error even if the CPU could decode."""
    if video_engines.video_engines()[1].problem is None:
        pytest.skip("NVDEC opens here")
    monkeypatch.setattr(video_engines, "_nvdec_problem", lambda: None)
    with pytest.raises(SourceError, match=r"Operation not permitted\); without `nvdec` the CPU decodes"):
        Reader(clip(tmp_path, "h264"), nvdec=True)


def test_a_reader_and_a_job_have_the_same_decoder(tmp_path):
    source, target = clip(tmp_path, "h264"), tmp_path / "out.mp4"
    with Reader(source) as reader, pytest.raises(SettingsError, match="another cut, tone mapping or decoder"):
        upscale(reader, target, nvdec_job(target))


def test_the_test_decodes_a_frame(monkeypatch):
    look, attempt = video_engines_process._look, video_engines_process._open_decoder
    assert look(["drm"], attempt)["problem"]  # PyAV knows the device, but no decoder for it
    file = video_engines_process._clip()
    opened = av.open

    def without_a_gpu(*args, hwaccel=None, **settings):
        return opened(*args, **settings)

    monkeypatch.setattr(video_engines_process.av, "open", without_a_gpu)
    with pytest.raises(ValueError, match="yuv420p instead of nv12"):
        attempt("cuda")
    monkeypatch.undo()
    with av.open(file) as read:
        assert [(frame.width, frame.height) for frame in read.decode(video=0)] == [(256, 256)]
