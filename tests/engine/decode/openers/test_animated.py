"""Animated WebP is read with the timing of browsers, from a file, from memory and from the web."""

import io

import numpy as np
import pytest
from PIL import Image
from web_files import WebFiles

from upres.engine.color.convert import ToRGB
from upres.engine.core.errors import SourceError
from upres.engine.decode.inventory import Kind
from upres.engine.decode.reader import Reader


def animated(durations, mode="RGB", **options):
    """Return the bytes of a lossless WebP of noise, and its frames as Pillow decodes them."""
    noise = np.random.default_rng(1).integers(0, 256, (len(durations), 12, 16, len(mode)), np.uint8)
    first, *others = [Image.fromarray(frame) for frame in noise]
    file = io.BytesIO()
    how = {"save_all": True, "lossless": True, "exact": True, **options}
    first.save(file, "WEBP", append_images=others, duration=durations, **how)
    return file.getvalue(), noise


def read(source):
    with Reader(source) as reader:
        to_rgb = ToRGB(reader.info.shape.color, reader.info.orientation)
        frames = [(frame.pts * frame.time_base, frame.duration, to_rgb(frame).copy()) for frame in reader.frames()]
        return frames, reader


def test_every_frame_is_read_and_shown_for_as_long_as_browsers_do(tmp_path):
    data, pixels = animated([40, 250, 100, 5])
    (tmp_path / "in.webp").write_bytes(data)
    for source in (tmp_path / "in.webp", io.BytesIO(data)):
        frames, reader = read(source)
        assert [float(at) for at, _, _ in frames] == [0, 0.04, 0.29, 0.39]
        assert [duration for _, duration, _ in frames] == [40, 250, 100, 100]
        assert all((actual == expected).all() for (_, _, actual), expected in zip(frames, pixels, strict=True))
        assert (reader.info.container, reader.info.codec, reader.info.shape.rate) == ("webp", "webp", 25)


def test_one_on_the_web_is_read_from_there():
    data, pixels = animated([40, 40])
    with WebFiles({"in.webp": data}) as server:
        server.kind = "image/webp"
        frames, _ = read(server.url("in.webp"))
    assert len(frames) == len(pixels)


def test_transparent_parts_are_shown_over_black_and_said():
    data, pixels = animated([40, 40], "RGBA", method=0)
    frames, reader = read(io.BytesIO(data))
    shown = pixels[0, ..., :3] * (pixels[0, ..., 3:] / 255)
    assert np.abs(frames[0][2] - shown).max() <= 1
    assert [item.kind for item in reader.inventory].count(Kind.ALPHA) == 1


def test_a_damaged_one_is_refused_and_leaves_nothing(tmp_path):
    data, _ = animated([40] * 4)
    (tmp_path / "in.webp").write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match=r"in\.webp: this WebP cannot be read"):
        Reader(tmp_path / "in.webp")


def test_a_service_which_names_its_containers_takes_none(tmp_path):
    (tmp_path / "in.webp").write_bytes(animated([40, 40])[0])
    with pytest.raises(SourceError, match="its format is not among the accepted ones"):
        Reader(tmp_path / "in.webp", formats=("matroska",))
