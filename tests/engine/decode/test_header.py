"""Cropping that a container specifies in a track's header."""

import struct

import media
import pytest
import referee
import surgery
from fake import upscaled

from upres.engine.decode.reader import Reader

EDGES = b"\x54\xcc\x81\x08\x54\xdd\x81\x04\x54\xbb\x81\x06\x54\xaa\x81\x02"  # left 8, right 4, top 6, bottom 2
APERTURE = struct.pack(
    ">I4s8i", 40, b"clap", 52, 1, 40, 1, 2, 1, 2, 1
)  # the same cropping as an aperture: size, and offset of its center


def matroska(folder):
    whole = media.clip(folder / "whole.mkv", "-c:v", "ffv1", "-pix_fmt", "bgr0", "-f", "matroska", "-live", 1)
    path = folder / "in.mkv"
    path.write_bytes(surgery.elements(whole.read_bytes(), lambda name, body: body + EDGES if name == b"\xe0" else body))
    return whole, path


def quicktime(folder, tag=b"png ", *codec):
    whole = media.clip(folder / "whole.mov", *(codec or ("-c:v", "png")), "-pix_fmt", "rgb24")
    path = folder / "in.mov"

    def change(kind, body):
        return surgery.first_entry(body, tag, APERTURE) if kind == b"stsd" else body

    path.write_bytes(surgery.boxes(whole.read_bytes(), change))
    return whole, path


def animation(folder):
    """The codec is specific to QuickTime, and Matroska does not support it."""
    return quicktime(folder, b"rle ", "-c:v", "qtrle")


@pytest.mark.parametrize("make", [matroska, quicktime, animation])
def test_what_a_container_crops_off_is_not_upscaled(tmp_path, make):
    whole, path = make(tmp_path)
    with Reader(path) as reader:
        shape = reader.info.shape
        assert (shape.width, shape.height) == (52, 40)
        shown = [frame.to_ndarray(format="rgb24") for frame in reader.frames()]
    expected = referee.pictures(whole)[:, 6:46, 8:60]
    assert len(shown) == 10 and all((frame == picture).all() for frame, picture in zip(shown, expected, strict=True))
    upscaled(path, tmp_path / "out.mkv")
    assert referee.size(tmp_path / "out.mkv") == (104, 80)
    assert referee.packets(tmp_path / "out.mkv") == referee.packets(whole)
