"""Description of an image: its properties, and what is lost in upscaling."""

import media
import pytest
from PIL import ExifTags, Image, ImageCms

from upres.engine.core.errors import SourceError
from upres.engine.images.facts import facts_of


def test_a_photo_is_described_as_it_is_shown(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "Acme"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    Image.new("RGB", (8, 6)).save(tmp_path / "in.jpg", exif=exif, icc_profile=profile.tobytes())
    facts = facts_of(tmp_path / "in.jpg")
    assert (facts.format, facts.width, facts.height, facts.bits, facts.color) == ("JPEG", 6, 8, 8, "RGB")
    assert facts.exif and facts.turned and not facts.transparent and facts.notes == ()
    assert facts.profile == ImageCms.getProfileDescription(profile).strip()


@pytest.mark.parametrize(
    ("pixels", "color", "bits"),
    [("rgb48be", "RGB", 16), ("gray16be", "gray", 16), ("gray", "gray", 8), ("monob", "gray", 1), ("rgba", "RGB", 8)],
)
def test_the_depth_is_that_of_the_file(tmp_path, pixels, color, bits):
    media.clip(tmp_path / "in.png", "-frames:v", 1, "-pix_fmt", pixels)
    facts = facts_of(tmp_path / "in.png")
    assert (facts.color, facts.bits) == (color, bits)


def test_transparency_is_what_can_be_seen_through(tmp_path):
    for name, alpha in (("clear.png", 0), ("opaque.png", 255)):
        Image.new("RGBA", (4, 4), (1, 2, 3, alpha)).save(tmp_path / name)
        assert facts_of(tmp_path / name).transparent == (alpha == 0)


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "in.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match="not an image that can be read"):
        facts_of(tmp_path / "in.png")
