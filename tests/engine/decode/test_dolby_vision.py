"""High dynamic range is recognized by all available metadata; kinds that cannot be converted are rejected by name."""

import media
import pytest
import referee
from fake import upscaled
from paths import CASES

from upres.engine.core.errors import SourceError
from upres.engine.decode.dolby_vision import DolbyVision, dolby_vision
from upres.engine.decode.reader import Reader

COMPATIBLE = b"dvcC\x01\x00\x0a\x1d\x00", b"dvcC\x01\x00\x10\x1d\x20"  # profile 5; profile 8 whose base layer is SDR


@pytest.mark.parametrize("name", ["dv5.mp4", "dv5.mkv"])
@pytest.mark.parametrize("tonemap", [False, True])
def test_profile_5_is_refused_by_name(tmp_path, name, tonemap):
    source = CASES / name
    if name != "dv5.mp4":
        source = tmp_path / name
        media.ffmpeg("-i", CASES / "dv5.mp4", "-c", "copy", "-tag:v", "hvc1", "-strict", "unofficial", source)
    with pytest.raises(
        SourceError, match=r"is Dolby Vision profile 5, whose colors .* libplacebo .* use a version whose base layer"
    ):
        Reader(source, tonemap=tonemap)


def test_a_base_layer_that_anybody_can_show_is_taken(tmp_path):
    old, new = COMPATIBLE
    data = (CASES / "dv5.mp4").read_bytes()
    assert old in data
    (tmp_path / "dv8.mp4").write_bytes(data.replace(old, new).replace(b"dvh1", b"hvc1"))
    with Reader(tmp_path / "dv8.mp4") as reader:
        assert dolby_vision(reader.video, next(reader.frames())) == DolbyVision(8, True)


@pytest.mark.parametrize(("name", "what"), [("dv8.mp4", "Dolby Vision"), ("hdr10plus.mp4", "HDR10+")])
def test_what_lies_above_the_picture_is_left_out_with_a_note(tmp_path, name, what):
    source = CASES / name
    if name == "dv8.mp4":
        old, new = COMPATIBLE
        source = tmp_path / name
        source.write_bytes((CASES / "dv5.mp4").read_bytes().replace(old, new).replace(b"dvh1", b"hvc1"))
    progress = upscaled(source, tmp_path / "out.mp4")
    assert f"{what} metadata is left out: it goes with the source's own frames; the picture" in "".join(
        progress.warnings
    )
    if name == "hdr10plus.mp4":
        assert referee.streams(tmp_path / "out.mp4", "video")[0]["color_transfer"] == "smpte2084"


def test_metadata_of_its_mastering_says_that_an_untagged_clip_is_pq(tmp_path):
    display = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
    options = ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", f"log-level=none:hdr10=1:{display}")
    clip = media.clip(tmp_path / "in.mkv", *options)
    with pytest.raises(SourceError, match=r"is high dynamic range .smpte2084."):
        Reader(clip)
    with Reader(clip, tonemap=True) as reader:
        assert reader.info.shape.color.transfer == "smpte2084"
