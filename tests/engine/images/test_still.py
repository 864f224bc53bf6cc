"""Still images through the whole engine, verified with Pillow: pixels, transparency and metadata."""

import io
from pathlib import Path

import av
import media
import numpy as np
import pytest
from fake import Nearest, repeated
from PIL import ExifTags, Image, ImageCms
from web_files import WebFiles

from upres.engine.core.errors import SettingsError, SourceError, TargetError
from upres.engine.images.sixteen_bits import encoded
from upres.engine.images.still import upscale_image
from upres.engine.models import registry

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF, GPS = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo
WHEN = "2020:02:03 04:05:06"


def pixels(height=6, width=8, channels=3):
    return np.random.default_rng(1).integers(0, 256, (height, width, channels), np.uint8).squeeze()


def opened(path):
    """Return Pillow's image of a file, which is closed again."""
    return Image.open(io.BytesIO(path.read_bytes()))


def saved(path, array, **options) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def upscaled(source, target, **options):
    """Return the result as an array, and the image with its metadata."""
    upscale_image(source, target, [Nearest()], **options)
    image = opened(target)
    return np.asarray(image), image


def exif(orientation):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    tags[ExifTags.Base.Make] = "Acme"
    tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength] = 8, 6
    tags.get_ifd(EXIF).update({ExifTags.Base.DateTimeOriginal: WHEN, ExifTags.Base.ExifImageWidth: 8})
    tags.get_ifd(GPS)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return tags


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".bmp"])
def test_an_image_becomes_its_upscaled_self(tmp_path, suffix):
    source = saved(tmp_path / f"in{suffix}", pixels())
    result, image = upscaled(source, tmp_path / f"out{suffix}")
    assert (result == repeated(pixels(), 2)).all() and image.size == (16, 12)
    assert {path.name for path in tmp_path.iterdir()} == {f"in{suffix}", f"out{suffix}"}


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".gif", ".avif"])
def test_formats_that_lose_something_stay_near_it(tmp_path, suffix):
    smooth = np.linspace(0, 255, 32 * 32, dtype=np.uint8).reshape(32, 32)[..., None].repeat(3, 2)
    source = saved(tmp_path / "in.png", smooth)
    upscale_image(source, tmp_path / f"out{suffix}", [Nearest()])
    result = np.asarray(opened(tmp_path / f"out{suffix}").convert("RGB"))
    assert np.abs(result.astype(int) - repeated(smooth, 2)).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_the_rotation_that_exif_asks_for_is_applied_and_asked_for_no_more(tmp_path, orientation, suffix):
    source = saved(tmp_path / f"in{suffix}", pixels(), exif=exif(orientation))
    result, image = upscaled(source, tmp_path / f"out{suffix}")
    turned = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: np.rot90,
    }
    assert (result == repeated(turned[orientation](pixels()), 2)).all()
    assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    assert image.getexif()[ExifTags.Base.Make] == "Acme"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff", ".avif"])
def test_exif_is_kept_with_the_size_that_the_image_has_now(tmp_path, suffix):
    source = saved(tmp_path / "in.jpg", pixels(), exif=exif(6))
    _, image = upscaled(source, tmp_path / f"out{suffix}")
    kept = image.getexif()
    assert image.size == (12, 16)  # turned
    assert (kept[ExifTags.Base.ImageWidth], kept[ExifTags.Base.ImageLength]) == (12, 16)
    assert kept.get_ifd(EXIF) == {ExifTags.Base.DateTimeOriginal: WHEN, ExifTags.Base.ExifImageWidth: 12}
    assert kept.get_ifd(GPS) == {ExifTags.GPS.GPSLatitudeRef: "N"}


@pytest.mark.parametrize(("byte", "size"), [(6, (16, 12)), (19, (12, 16))])
def test_exif_that_is_damaged_costs_itself_and_not_the_image(tmp_path, byte, size):
    """Byte 6 is the byte order, byte 19 the type of ImageWidth, after which the orientation is still readable."""
    data = bytearray(exif(6).tobytes())
    data[byte] = 7
    source = saved(tmp_path / "in.jpg", pixels(), exif=bytes(data))
    assert upscale_image(source, tmp_path / "out.png", [Nearest()]) == ["the image's EXIF is damaged and left out"]
    image = opened(tmp_path / "out.png")
    assert image.size == size and not image.getexif()


def test_xmp_is_kept_without_a_rotation_that_was_applied(tmp_path):
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6" dc:title="hello"/></x:xmpmeta>'
    source = saved(tmp_path / "in.jpg", pixels(), exif=exif(6), xmp=xmp)
    for suffix in (".jpg", ".webp"):
        _, image = upscaled(source, tmp_path / f"out{suffix}")
        assert image.info["xmp"] == xmp.replace(b'tiff:Orientation="6"', b"") and image.size == (12, 16)


def test_what_is_too_long_for_a_jpeg_is_left_out_and_said_and_the_rest_is_kept(tmp_path):
    """The limits are those of JPEG: a segment of 65,535 bytes including its length, and XMP's name of 29 bytes."""
    long_tags = exif(1)
    long_tags[ExifTags.Base.ImageDescription] = "x" * 65600
    for facts, note in [
        ({"exif": long_tags, "xmp": b"x" * 65504}, "EXIF"),
        ({"exif": exif(1), "xmp": b"x" * 65505}, "XMP, 65505 bytes, is left out: JPEG holds 65504"),
    ]:
        source = saved(tmp_path / "in.webp", pixels(), lossless=True, **facts)
        (warning,) = upscale_image(source, tmp_path / "out.jpg", [Nearest()], overwrite=True)
        image = opened(tmp_path / "out.jpg")
        assert note in warning and image.size == (16, 12)
        assert ("xmp" in image.info, "exif" in image.info) == (note == "EXIF", note != "EXIF")
        assert upscale_image(source, tmp_path / "out.png", [Nearest()], overwrite=True) == []


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
def test_the_color_profile_is_kept_and_the_numbers_are_left_alone(tmp_path, suffix):
    source = saved(tmp_path / "in.png", pixels(), icc_profile=SRGB, dpi=(300, 300))
    result, image = upscaled(source, tmp_path / f"out{suffix}")
    assert image.info["icc_profile"] == SRGB
    assert suffix == ".webp" or image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert suffix in (".jpg", ".webp") or (result == repeated(pixels(), 2)).all()


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp"])
def test_transparency_is_upscaled_by_itself(tmp_path, suffix):
    source = saved(tmp_path / "in.png", pixels(channels=4) | np.array([0, 0, 0, 1], np.uint8))
    expected = repeated(np.asarray(opened(source)), 2)
    result, _ = upscaled(source, tmp_path / f"out{suffix}")
    assert (result[..., 3] == expected[..., 3]).all()
    assert suffix == ".webp" or (result == expected).all()


def test_the_edge_of_something_transparent_keeps_its_color(tmp_path):
    """The color of invisible pixels, here black, does not affect visible ones."""
    across, down = np.meshgrid(np.arange(64), np.arange(64))
    disc = (across - 32) ** 2 + (down - 32) ** 2 < 20**2
    array = np.zeros((64, 64, 4), np.uint8)
    array[disc] = 230, 40, 40, 255
    source = saved(tmp_path / "in.png", array)
    upscale_image(source, tmp_path / "out.png", [registry.load("RealESRGAN_Vid_x2")[0]])
    result = np.asarray(opened(tmp_path / "out.png")).astype(int)
    seen, solid = result[result[..., 3] > 60], result[40:80, 40:80, 3]
    assert np.abs(seen[:, :3] - (230, 40, 40)).max() < 25
    assert solid.min() > 250 and result[:8, :8, 3].max() < 5
    assert np.abs(result[..., 3].mean() - 255 * disc.mean()) < 1


def test_what_is_opaque_or_empty_all_around_stays_so(tmp_path):
    """A real network returns nearly white and nearly black there, and has ringing at edges."""
    height, width = 24, 32
    alpha = np.zeros((height, width), np.uint8)
    alpha[6:18, 8:24] = 255
    source = saved(tmp_path / "in.png", np.dstack([pixels(height, width), alpha]))
    upscale_image(source, tmp_path / "out.png", [registry.load("RealESRGAN_Vid_x2")[0]])
    result = np.array(opened(tmp_path / "out.png"))[..., 3]
    inside, near = np.s_[14:34, 18:46], np.s_[10:38, 14:50]
    assert result[inside].min() == 255
    result[near] = 0
    assert result.max() == 0


def test_what_is_opaque_throughout_needs_no_second_run(tmp_path):
    model = Nearest()
    upscale_image(saved(tmp_path / "in.png", pixels(channels=4) | np.array([0, 0, 0, 255], np.uint8)),
                  tmp_path / "out.png", [model])  # fmt: skip
    assert len(model.opened) == 1 and opened(tmp_path / "out.png").mode == "RGB"


def test_gray_stays_gray_and_a_palette_becomes_its_colors(tmp_path):
    gray = pixels(channels=1)
    result, image = upscaled(saved(tmp_path / "gray.png", gray), tmp_path / "gray_out.png")
    assert image.mode == "L" and (result == repeated(gray, 2)).all()
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).convert("1").save(tmp_path / "bits.png")
    assert upscaled(tmp_path / "bits.png", tmp_path / "bits_out.png")[1].mode == "L"
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([1, 2, 3, 200, 100, 50])
    palette.save(tmp_path / "palette.png", transparency=0)
    result, image = upscaled(tmp_path / "palette.png", tmp_path / "palette_out.png")
    assert image.mode == "RGB" and (result == (200, 100, 50)).all()


def codes(path):
    """Return a 16-bit image decoded by FFmpeg, as RGBA."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert "16" in frame.format.name or "48" in frame.format.name or "64" in frame.format.name, frame.format.name
        return frame.to_ndarray(format="rgba64le").astype(int)


@pytest.mark.parametrize("target", ["out.png", "out.tiff"])
@pytest.mark.parametrize(
    "source",
    ["rgb48be.png", "rgba64be.png", "gray16be.png", "ya16be.png", "rgb48le.tif", "rgba64le.tif", "gray16le.tif"],
)
def test_sixteen_bits_stay_sixteen(tmp_path, source, target):
    """Codes are kept within one of 65,535, and so is partial transparency."""
    kind = source.partition(".")[0]
    slope = "format=gbrap16le,geq=r='X*1000+Y':g='Y*2000+X':b='(X+Y)*500':a='30000+X*300'"
    if kind.startswith("gray"):
        slope = "format=gray16le,geq=lum='X*1000+Y'"
    media.clip(tmp_path / source, "-vf", f"{slope},format={kind}", "-frames:v", 1, picture="color=size=24x10")
    assert upscale_image(tmp_path / source, tmp_path / target, [Nearest()]) == []
    kept = codes(tmp_path / target)
    assert np.abs(kept - repeated(codes(tmp_path / source), 2)).max() <= 1
    assert len(np.unique(kept[..., 0])) > 200 or kind.startswith("ya")


@pytest.mark.parametrize("target", ["out.png", "out.tiff"])
@pytest.mark.parametrize("source", ["PNG", "TIFF"])
def test_an_image_of_sixteen_bits_keeps_what_its_file_says_besides(tmp_path, source, target):
    deep = np.random.default_rng(1).integers(0, 65281, (6, 8, 3)).astype(np.uint16)
    facts = {"exif": exif(6).tobytes(), "icc_profile": SRGB, "dpi": (300.0, 300.0)}
    (tmp_path / f"in.{source.lower()}").write_bytes(encoded(deep, source, facts))
    assert upscale_image(tmp_path / f"in.{source.lower()}", tmp_path / target, [Nearest()]) == []
    image = opened(tmp_path / target)
    kept = image.getexif()
    assert image.info["icc_profile"] == SRGB and round(image.info["dpi"][0]) == 300
    assert kept[ExifTags.Base.Make] == "Acme" and kept[ExifTags.Base.ImageWidth] == 12
    assert kept.get_ifd(EXIF)[ExifTags.Base.DateTimeOriginal] == WHEN
    assert kept.get_ifd(GPS) == {ExifTags.GPS.GPSLatitudeRef: "N"}
    turned = repeated(np.rot90(codes(tmp_path / f"in.{source.lower()}"), -1), 2)
    assert np.abs(codes(tmp_path / target) - turned).max() <= 1


def test_sixteen_bits_become_eight_where_no_more_are_held_and_are_averaged_as_they_were(tmp_path):
    deep = np.full((16, 16), 100 << 8 | 128, np.uint16)
    (note,) = upscale_image(saved(tmp_path / "deep.png", deep), tmp_path / "a.bmp", [Nearest()])
    assert note == "the image's 16 bits a channel become 8, dithered: BMP holds 8"
    assert abs(np.asarray(opened(tmp_path / "a.bmp")).mean() - deep[0, 0] / 257) < 0.1
    whole = (tmp_path / "deep.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) - 30])
    with pytest.raises(SourceError, match="truncated"):
        upscale_image(tmp_path / "cut.png", tmp_path / "b.png", [Nearest()])


def test_inks_become_colors_and_that_is_said(tmp_path):
    Image.new("CMYK", (8, 6), (0, 255, 255, 0)).save(tmp_path / "inks.jpg", quality=100)
    notes = upscale_image(tmp_path / "inks.jpg", tmp_path / "b.png", [Nearest()])
    assert notes == ["the image's inks (CMYK) become sRGB"]
    assert np.abs(np.asarray(opened(tmp_path / "b.png")).astype(int) - (255, 0, 0)).max() < 4


def test_of_several_pages_the_first_is_taken_and_said(tmp_path):
    pages = [Image.new("RGB", (8, 6), color) for color in ("red", "green", "blue")]
    pages[0].save(tmp_path / "in.tiff", save_all=True, append_images=pages[1:])
    notes = upscale_image(tmp_path / "in.tiff", tmp_path / "out.png", [Nearest()])
    assert notes == ["only the first of 3 pages is upscaled"]
    assert opened(tmp_path / "out.png").getpixel((0, 0)) == (255, 0, 0)


def test_a_jpeg_lays_transparency_over_white_and_says_so(tmp_path):
    source = saved(tmp_path / "in.png", np.zeros((8, 8, 4), np.uint8))
    notes = upscale_image(source, tmp_path / "out.jpg", [Nearest()])
    assert notes == ["JPEG holds no transparency: it is laid over white"]
    assert np.asarray(opened(tmp_path / "out.jpg")).min() == 255


def test_a_height_resamples_the_result_and_no_more_than_there_is(tmp_path):
    source = saved(tmp_path / "in.png", pixels(channels=4))
    assert upscaled(source, tmp_path / "out.png", height=9)[1].size == (12, 9)
    with pytest.raises(SettingsError, match="exceeds the upscaled height"):
        upscale_image(source, tmp_path / "high.png", [Nearest()], height=13)


def test_a_model_by_name_is_the_same_as_the_model_of_a_video(tmp_path):
    source = saved(tmp_path / "in.png", pixels(40, 48))
    upscale_image(source, tmp_path / "out.png", model="x2")
    assert opened(tmp_path / "out.png").size == (96, 80)


def damaged(folder):
    whole = io.BytesIO()
    Image.fromarray(pixels(64, 64)).save(whole, "PNG")
    yield "cut.png", whole.getvalue()[:3000], "truncated"
    yield "none.png", b"", "the file is empty"
    yield "text.jpg", b"what to buy\n", "not an image that can be read"
    program = io.BytesIO()  # PostScript, which only Ghostscript could run
    Image.fromarray(pixels()).save(program, "EPS")
    yield "program.png", program.getvalue(), "not an image that can be read$"
    header = io.BytesIO()
    Image.new("1", (20000, 20)).save(header, "PNG")
    yield "wide.png", header.getvalue(), "20000x20 are larger than can be held"
    bomb = io.BytesIO()
    Image.new("1", (16000, 16000)).save(bomb, "PNG")
    yield "bomb.png", bomb.getvalue(), "larger than can be held; the limit is"


def test_an_image_on_the_web_is_read_from_there(tmp_path):
    source = saved(tmp_path / "in.png", pixels(channels=4), exif=exif(8))
    upscale_image(source, tmp_path / "here.png", [Nearest()])
    with WebFiles({"a photo.png": source.read_bytes()}) as server:
        server.kind = "image/png"
        address = server.url("a%20photo.png?size=full")
        upscale_image(address, tmp_path / "there.png", [Nearest()])
        with pytest.raises(SourceError, match="404"):
            upscale_image(server.url("none.png"), tmp_path / "none.png", [Nearest()])
    assert (tmp_path / "there.png").read_bytes() == (tmp_path / "here.png").read_bytes()


def test_what_cannot_be_read_is_said_and_leaves_nothing(tmp_path):
    for name, data, words in damaged(tmp_path):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SourceError, match=words):
            upscale_image(tmp_path / name, tmp_path / "out.png", [Nearest()])
        (tmp_path / name).unlink()
    with pytest.raises(SourceError, match="no such file"):
        upscale_image(tmp_path / "nowhere.png", tmp_path / "out.png", [Nearest()])
    saved(tmp_path / "float.tiff", np.zeros((4, 4), np.float32))
    with pytest.raises(SourceError, match="32 bits"):
        upscale_image(tmp_path / "float.tiff", tmp_path / "out.png", [Nearest()])
    assert [path.name for path in tmp_path.iterdir()] == ["float.tiff"]


def test_what_cannot_be_written_is_said_before_any_work(tmp_path):
    source, model = saved(tmp_path / "in.png", pixels()), Nearest()
    (tmp_path / "there.png").write_bytes(b"kept")
    long = saved(tmp_path / "long.png", pixels(2, 8200))
    for origin, target, words in [
        (source, tmp_path / "there.png", "exists already; `overwrite` replaces it"),
        (source, tmp_path / "no" / "out.png", "there is no folder"),
        (source, tmp_path / "out.xyz", "its name must end in .png"),
        (source, source, "is the input itself"),
        (long, tmp_path / "long.webp", "WEBP holds 16383 pixels a side, and the result is 16400x4"),
    ]:
        with pytest.raises(TargetError, match=words):
            upscale_image(origin, target, [model])
    assert not model.opened and (tmp_path / "there.png").read_bytes() == b"kept"
    upscale_image(source, tmp_path / "there.png", [model], overwrite=True)
    assert opened(tmp_path / "there.png").size == (16, 12)
