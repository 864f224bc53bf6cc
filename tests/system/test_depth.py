"""More than 8 bits per channel and high dynamic range: preserved from source to file, or reported as lost."""

import re
import subprocess

import media
import numpy as np
import onnx
import onnxruntime
import pytest
import referee
from fake import Nearest, job, upscaled

from upres.engine.api import prepared, upscale
from upres.engine.core.errors import Interrupted, ModelError, SourceError
from upres.engine.encode.options import Encoder
from upres.engine.models import manifest, per_frame
from upres.engine.pipeline.options import Job

pytestmark = pytest.mark.referee

NETWORK = "realesr-live-x2"
DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
MASTERING = r"r\(0.6800,0.3200\) g\(0.2650,0.6900\) b\(0.1500.0.0600\) "
MASTERING += r"wp\(0.3127, 0.3290\) min_luminance=0.0050\d+, max_luminance=1000"
CONTENT = "MaxCLL=1000, MaxFALL=400"
FFV1 = Encoder(codec="ffv1")


def ramp(path):
    """Return a frame whose luma rises by one 10-bit code every 16 pixels, from 400 to 431; it would show bands in 8 bits."""
    luma = np.arange(400, 432, dtype="<u2").repeat(16)[None].repeat(64, 0)
    grey = np.full((32, 256), 512, "<u2")
    (path.parent / "raw").write_bytes(luma.tobytes() + 2 * grey.tobytes())
    how = ("-f", "rawvideo", "-pix_fmt", "yuv420p10le", "-s", "512x64", "-r", 10, "-i", path.parent / "raw")
    media.ffmpeg(*how, *media.tagged("bt709", "bt709", "bt709"), "-c:v", "ffv1", path)
    return path


def clip(path, transfer, *parameters, codec="libx265"):
    tags = media.tagged("bt2020nc", "bt2020", transfer)
    params = ":".join(("log-level=none", "cutree=0", *parameters))
    return media.clip(
        path, "-c:v", codec, "-x265-params", params, "-pix_fmt", "yuv420p10le", *tags, picture=media.SMOOTH
    )


def pq(path):
    return clip(path, "smpte2084", "hdr10=1", f"master-display={DISPLAY}", "max-cll=1000,400")


def luma(path):
    """Return the first frame's luma in 10-bit codes, as ffmpeg decodes it."""
    width, height = referee.size(path)
    form = referee.streams(path, "video")[0]["pix_fmt"]
    data = media.ffmpeg("-i", path, "-frames:v", 1, "-f", "rawvideo", "-pix_fmt", form, "-")
    deep = "10" in form
    plane = np.frombuffer(data, "<u2" if deep else np.uint8)[: width * height].reshape(height, width)
    return plane.astype(float) * (1 if deep else 4)


def in_float(pixels):
    """Return the network's result for levels 0..255 in floating point, without rounding."""
    model = onnx.load(manifest.find(NETWORK)[0])
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for node in model.graph.node:
        if node.op_type == "Round":
            node.op_type = "Identity"
        if model.graph.output[0].name in node.output:
            node.attribute[0].i = onnx.TensorProto.FLOAT
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"frame": pixels.astype(np.float32)[None]})[0][0]


def psnr(result, expected):
    return 10 * np.log10(1023**2 / np.mean((result - expected) ** 2))


def test_a_slow_ramp_keeps_its_steps_through_the_network(tmp_path):
    source = ramp(tmp_path / "in.mkv")
    model = per_frame.load(NETWORK, runtime="onnxruntime")
    upscale(source, tmp_path / "deep.mkv", job(tmp_path / "deep.mkv", model, encoder=FFV1))
    shallow = Encoder(codec="ffv1", pixel_format="yuv444p")
    upscale(source, tmp_path / "shallow.mkv", job(tmp_path / "shallow.mkv", model, encoder=shallow))
    grey = (luma(source) - 64) / 876 * 255
    exact = in_float(grey[..., None].repeat(3, 2)) @ (0.2126, 0.7152, 0.0722) / 255 * 876 + 64
    inner = (slice(32, -32), slice(32, -32))  # without the effect of zero padding at the frame's borders
    deep, eight = (luma(tmp_path / name)[inner] for name in ("deep.mkv", "shallow.mkv"))
    assert psnr(deep, exact[inner]) > 65
    assert psnr(deep, exact[inner]) > psnr(eight, exact[inner]) + 12
    rows = [len(np.unique(plane[plane.shape[0] // 2])) for plane in (deep, eight)]
    assert rows[0] > 3.5 * (rows[1] - 2)  # in 8 bits; dithering adds two rows at the ends
    assert np.diff(np.unique(deep)).max() == 1  # no step is larger than a code, so there are no bands


def test_ten_bits_become_hevc_in_ten_bits(tmp_path):
    progress = upscaled(ramp(tmp_path / "in.mkv"), tmp_path / "out.mp4")
    assert progress.warnings == [
        "10 bits a channel are encoded as HEVC: few players show them as H.264, which `codec` h264 gives"
    ]
    video = referee.streams(tmp_path / "out.mp4", "video")[0]
    assert (video["codec_name"], video["pix_fmt"], video["color_transfer"]) == ("hevc", "yuv420p10le", "bt709")
    assert len(np.unique(luma(tmp_path / "out.mp4"))) >= 30


FORMATS = [
    ("h264", "out.mp4", "yuv420p10le"),
    ("hevc", "out.mp4", "yuv420p10le"),
    ("av1", "out.mp4", "yuv420p10le"),
    ("prores", "out.mov", "yuv422p10le"),
    ("ffv1", "out.mkv", "yuv444p10le"),
    ("lossless", "out.mkv", "gbrp12le"),
    ("vp9", "out.mkv", "yuv420p"),
]


@pytest.mark.parametrize(("codec", "name", "pixel_format"), FORMATS)
def test_every_codec_holds_what_it_can(tmp_path, codec, name, pixel_format):
    crf = {"crf": 30} if codec in ("av1", "vp9") else {}
    progress = upscaled(ramp(tmp_path / "in.mkv"), tmp_path / name, encoder=Encoder(codec=codec, **crf))
    assert referee.streams(tmp_path / name, "video")[0]["pix_fmt"] == pixel_format
    assert bool(progress.warnings) == (codec == "vp9")


def test_lossless_loses_no_step(tmp_path):
    upscaled(ramp(tmp_path / "in.mkv"), tmp_path / "out.mkv", Nearest(2), encoder=Encoder(codec="lossless"))
    data = media.ffmpeg("-i", tmp_path / "out.mkv", "-frames:v", 1, "-f", "rawvideo", "-pix_fmt", "gbrp12le", "-")
    green = np.frombuffer(data, "<u2")[: 1024 * 128].reshape(128, 1024)
    expected = (np.arange(400, 432) - 64) / 876 * 4095
    assert np.abs(green[64].reshape(32, 32)[:, 8:24].mean(1) - expected).max() <= 1


def lights(path):
    """Return ffmpeg's light metadata of a file: of the container and of the first frame."""
    command = [
        media.program(),
        "-hide_banner",
        "-nostdin",
        "-i",
        path,
        "-vf",
        "showinfo",
        "-frames:v",
        "1",
        "-f",
        "null",
        "-",
    ]
    lines = subprocess.run(command, capture_output=True, check=True, timeout=60).stderr.decode().splitlines()
    output = next(number for number, line in enumerate(lines) if line.startswith("Stream mapping"))
    return "\n".join(lines[:output]), "\n".join(line for line in lines if "showinfo" in line)


@pytest.mark.parametrize(("codec", "name", "pixel_format"), [*FORMATS[:-1], ("hevc", "out.mkv", "yuv420p10le")])
def test_pq_is_carried_with_its_metadata_in_container_and_stream(tmp_path, codec, name, pixel_format):
    if codec == "prores" and media.version() < (7, 0):
        pytest.skip("ffmpeg before 7 forgets the transfer of PQ in ProRes")
    crf = {"crf": 30} if codec == "av1" else {}
    upscaled(pq(tmp_path / "in.mp4"), tmp_path / name, encoder=Encoder(codec=codec, **crf))
    video = referee.streams(tmp_path / name, "video")[0]
    assert (video["pix_fmt"], video["color_transfer"], video["color_primaries"]) == (
        pixel_format,
        "smpte2084",
        "bt2020",
    )
    assert video["color_space"] == ("gbr" if codec == "lossless" else "bt2020nc")
    for light in lights(tmp_path / name):
        assert re.search(MASTERING, light) and CONTENT in light, light


@pytest.mark.parametrize("codec", ["hevc", "h264"])
def test_the_stream_alone_says_it_too(tmp_path, codec):
    if codec == "h264" and media.version() < (7, 0):
        pytest.skip("ffmpeg before 7 reads no mastering display in H.264")
    upscaled(pq(tmp_path / "in.mp4"), tmp_path / "out.mp4", encoder=Encoder(codec=codec))
    bare = tmp_path / f"bare.{codec}"
    media.ffmpeg("-i", tmp_path / "out.mp4", "-c", "copy", bare)
    _, frame = lights(bare)
    assert re.search(MASTERING, frame) and CONTENT in frame


def test_pq_keeps_its_codes(tmp_path):
    source = pq(tmp_path / "in.mp4")
    upscaled(source, tmp_path / "out.mkv", Nearest(2), encoder=FFV1)
    assert np.abs(luma(tmp_path / "out.mkv")[::2, ::2] - luma(source)).max() <= 1


def test_hlg_is_carried(tmp_path):
    upscaled(clip(tmp_path / "in.mp4", "arib-std-b67"), tmp_path / "out.mp4")
    video = referee.streams(tmp_path / "out.mp4", "video")[0]
    assert (video["color_transfer"], video["color_primaries"]) == ("arib-std-b67", "bt2020")
    assert video["pix_fmt"] == "yuv420p10le"


def test_tone_mapping_gives_sdr(tmp_path):
    progress = upscaled(pq(tmp_path / "in.mp4"), tmp_path / "out.mp4", tonemap=True)
    video = referee.streams(tmp_path / "out.mp4", "video")[0]
    assert (video["codec_name"], video["pix_fmt"], video["color_transfer"]) == ("h264", "yuv420p", "bt709")
    assert progress.warnings == ["the source's 10 bits a channel become 8, dithered: tone mapping gives 8"]
    assert "MaxCLL" not in "".join(lights(tmp_path / "out.mp4"))


class Taking8:
    """Return a model that supports only 8 bits."""

    def __init__(self):
        self._model = Nearest(2)
        self.name, self.scale, self.warmup, self.report, self.digest = "taking8", 2, 0, "numpy", "none"
        self.open, self.memory = self._model.open, self._model.memory


def test_a_model_of_eight_bits_gets_them_and_refuses_high_dynamic_range(tmp_path):
    progress = upscaled(ramp(tmp_path / "in.mkv"), tmp_path / "out.mp4", Taking8())
    assert progress.warnings == ["the source's 10 bits a channel become 8, dithered: taking8 takes 8"]
    with pytest.raises(SourceError, match=r"high dynamic range .smpte2084., .* taking8 takes 8; `tonemap`"):
        upscaled(pq(tmp_path / "in.mp4"), tmp_path / "hdr.mp4", Taking8())


class Failing(Nearest):
    def deep(self):
        raise ModelError("no runtime for it")


def test_a_model_that_cannot_be_made_for_ten_bits_gets_eight_and_says_why(tmp_path):
    progress = upscaled(ramp(tmp_path / "in.mkv"), tmp_path / "out.mp4", Failing(2))
    assert progress.warnings == [
        "the source's 10 bits a channel become 8, dithered: the models take 8 here (no runtime for it)"
    ]


def test_a_pre_filter_of_eight_bits_says_so(tmp_path):
    progress = upscaled(ramp(tmp_path / "in.mkv"), tmp_path / "out.mp4", prefilters=("denoise-strong",))
    assert progress.warnings == [
        "the source's 10 bits a channel become 8, dithered: the pre-filter denoise-strong works in 8"
    ]


@pytest.mark.parametrize("prefilter", ["deinterlace", "denoise", "deblock"])
def test_other_pre_filters_keep_ten_bits(tmp_path, prefilter):
    upscaled(ramp(tmp_path / "in.mkv"), tmp_path / "out.mkv", prefilters=(prefilter,), encoder=FFV1)
    assert len(np.unique(luma(tmp_path / "out.mkv")[64])) >= 30


def interrupt():
    raise Interrupted("interrupted")


def test_an_interrupted_run_is_resumed_to_the_same_bytes(tmp_path):
    source, target = pq(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    settings = {"encoder": Encoder(segment_seconds=0.3)}
    upscaled(source, tmp_path / "whole.mp4", Nearest(2), **settings)
    ticks = iter([lambda: None] * 5)
    with pytest.raises(Interrupted):
        upscale(source, target, job(target, Nearest(2), **settings), tick=lambda: next(ticks, interrupt)())
    upscale(source, target, job(target, Nearest(2), **settings), resume=True)
    assert target.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_a_run_in_other_bits_is_not_resumed(tmp_path):
    source, target = ramp(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    with prepared(source, target, job(target, Nearest(2), encoder=FFV1)) as work:
        deep = work.job.settings()
    eight = Encoder(codec="ffv1", pixel_format="yuv444p")
    with prepared(source, target, job(target, Nearest(2), encoder=eight)) as work:
        assert work.job.settings()["graphs"] != deep["graphs"]


def test_images_have_eight_bits_and_say_so(tmp_path):
    progress = upscale(ramp(tmp_path / "in.mkv"), tmp_path / "frame_%03d.png", Job((Nearest(2),)))
    assert "the source's 10 bits a channel become 8, dithered: images have 8" in progress.warnings
    with pytest.raises(SourceError, match=r"high dynamic range .smpte2084., .* images have 8; `tonemap`"):
        upscale(pq(tmp_path / "in.mp4"), tmp_path / "hdr_%03d.png", Job((Nearest(2),)))
