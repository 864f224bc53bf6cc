"""Still images are recognized by content, regardless of their names."""

import io
import os

import media
import pytest
from PIL import Image
from web_files import WebFiles

from upres.engine.images import recognize
from upres.engine.images.recognize import still_format, still_in

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF")


def image(kind="PNG", *, frames=1):
    file = io.BytesIO()
    first, *others = [Image.new("RGB", (16, 8), (60 * number, 0, 0)) for number in range(frames)]
    first.save(file, kind, **({"save_all": True, "append_images": others} if others else {}))
    return file.getvalue()


class Pipe(io.BytesIO):
    """Return what is read from a pipe whose reads return one byte less than requested."""

    def read(self, size=-1, /):
        assert size > 0, "a pipe is never read to its end at once"
        return super().read(max(1, size - 1))

    def seek(self, *_):
        raise OSError("a pipe is read in order")


def looked(data):
    pipe = Pipe(data)
    kind, consumed, whole = still_in(pipe)
    assert data.startswith(consumed) and pipe.tell() == len(consumed)
    return kind and kind.name, consumed, whole


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", ["photo", "photo.dat", "photo.mp4", "photo.png", "%d.jpg"])
def test_an_image_is_one_whatever_it_is_called(tmp_path, kind, name):
    (tmp_path / name).write_bytes(image(kind))
    assert still_format(tmp_path / name).name == kind
    assert looked(image(kind)) == (kind, image(kind), True)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("name", ["moving", "moving.jpg", "moving.webp"])
def test_what_moves_is_none(tmp_path, kind, name):
    (tmp_path / name).write_bytes(image(kind, frames=3))
    assert still_format(tmp_path / name) is None
    assert looked(image(kind, frames=3))[0] is None


def test_a_stream_that_begins_as_an_image_and_does_not_end_is_not_held_in_memory(monkeypatch):
    class Endless:
        beginning = io.BytesIO(image("PNG")[:-12])

        def read(self, size):
            return self.beginning.read(size) or bytes(size)

    monkeypatch.setattr(recognize, "MOST_BYTES", 1 << 20)
    kind, consumed, whole = still_in(Endless())
    assert kind is None and not whole and len(consumed) < 2 << 20


def test_images_one_after_the_other_are_none_unless_they_are_named_as_one(tmp_path):
    several = image("JPEG") * 40
    for name, kind in (("camera.mjpeg", None), ("photo.jpg", "JPEG")):  # with previews behind it
        (tmp_path / name).write_bytes(several)
        detected = still_format(tmp_path / name)
        assert (detected and detected.name) == kind
    assert looked(several)[0] is None


def test_a_video_is_none_and_almost_nothing_of_it_is_read(tmp_path):
    clip = media.clip(tmp_path / "in.mp4")
    assert still_format(clip) is None
    assert looked(clip.read_bytes()) == (None, clip.read_bytes()[:16], False)


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [("none.png", b"", "PNG"), ("cut.png", image()[:40], "PNG"), ("cut", image()[:40], None), ("list.txt", b"x", None)],
)
def test_what_cannot_be_read_is_what_its_name_says(tmp_path, name, data, kind):
    (tmp_path / name).write_bytes(data)
    detected = still_format(tmp_path / name)
    assert (detected and detected.name) == kind
    assert looked(data)[0] is None


def test_nothing_is_taken_from_a_pipe_with_a_name(tmp_path):
    for name, kind in (("pipe", None), ("pipe.png", "PNG"), ("nowhere", None), ("nowhere.gif", "GIF"), ("", None)):
        if name.startswith("pipe"):
            os.mkfifo(tmp_path / name)
        detected = still_format(tmp_path / name)
        assert (detected and detected.name) == kind


def test_on_the_web_what_is_named_as_an_image_is_looked_at():
    files = {
        "still.gif": image("GIF"),
        "moving.gif": image("GIF", frames=3),
        "a b.webp": image("JPEG"),
        "x.mp4": image(),
    }
    with WebFiles(files) as server:
        server.kind = "image/png"
        names = ("still.gif", "moving.gif", "a%20b.webp?size=full", "none.png", "x.mp4", "x")
        detected = [still_format(server.url(name)) for name in names]
        assert [kind and kind.name for kind in detected] == ["GIF", None, "JPEG", "PNG", None, None]
        assert len(server.requests) == 4
