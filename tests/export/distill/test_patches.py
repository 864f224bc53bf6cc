"""Patches: the teacher's results for the same pixels, reproducible for a seed; existing shards are kept."""

import av
import numpy as np
import pytest
from paths import SAMPLE
from small_networks import frame

from upres.export.distill import patches
from upres.export.distill.sources import Media

FOUND = (Media("a package", "clip", 3.0, ((0.0, 1.0), (2.0, 2.5))), Media("a package", "picture"))


class Twice:
    """A teacher that repeats every pixel."""

    scale = 2

    def __call__(self, pixels):
        return pixels.repeat(2, axis=0).repeat(2, axis=1)


@pytest.fixture
def media(tmp_path, monkeypatch):
    """Create a clip and a picture, with a patch size that fits into them at any reduction."""
    monkeypatch.setattr(patches, "SIDE", 32)
    monkeypatch.setattr(patches, "SHARD", 4)
    picture = tmp_path / "picture.png"
    with av.open(picture, "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 200, 160, "rgb24"
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(frame(200, 160))), *stream.encode()]:
            container.mux(packet)
    return {SAMPLE: FOUND[0], picture: FOUND[1]}


def make(media, folder, *, seed=1, shards=2, scale=2):
    messages = []
    patches.make(folder, media, Twice(), shards=shards, seed=seed, margin=4, report=messages.append)
    return patches.load(folder, shards, scale), messages


def test_a_target_is_what_the_teacher_makes_of_its_input(media, tmp_path):
    found, _ = make(media, tmp_path / "a")
    assert found.inputs.shape == (8, 32, 32, 3)
    assert np.array_equal(found.targets, found.inputs.repeat(2, axis=1).repeat(2, axis=2))
    assert len(np.unique(found.inputs.reshape(8, -1), axis=0)) == 8


@pytest.mark.parametrize("share", ["DRAWN", "SATURATED"])
def test_drawn_and_saturated_clips_are_more_colorful_than_the_media(media, tmp_path, monkeypatch, share):
    saturation = []
    for value in (0.0, 1.0):
        monkeypatch.setattr(patches, "DRAWN", 0.0)
        monkeypatch.setattr(patches, "SATURATED", 0.0)
        monkeypatch.setattr(patches, share, value)
        patches_made, _ = make(media, tmp_path / str(value), shards=6)
        saturation.append(np.ptp(patches_made.inputs.astype(int), axis=3).mean())
    assert saturation[1] > 1.2 * saturation[0]


def test_checkered_clips_have_textures_as_fine_as_the_pixel_grid(media, tmp_path, monkeypatch):
    monkeypatch.setattr(patches, "FINE_RATES", (None,))
    y, x = np.ogrid[:32, :32]
    strength = []
    for value in (0.0, 1.0):
        monkeypatch.setattr(patches, "CHECKERED", value)
        inputs = make(media, tmp_path / str(value), shards=6)[0].inputs.mean(3)
        signs = (1 - 2 * ((x + y) % 2), 1 - 2 * (x % 2 + 0 * y), 1 - 2 * (y % 2 + 0 * x))
        strength.append(np.abs([[block_means(frame * sign, 4) for frame in inputs] for sign in signs]).mean())
    assert strength[1] > 1.5 * strength[0]


def block_means(pixels, side):
    return pixels.reshape(len(pixels) // side, side, -1, side).mean((1, 3))


def test_crops_keep_blocks_of_color_where_they_are_in_frames(media, tmp_path, monkeypatch):
    blocks = frame(100, 80).repeat(2, axis=0).repeat(2, axis=1)
    monkeypatch.setattr(patches, "_draw", lambda *_: [blocks])
    found, _ = make(media, tmp_path / "a", shards=1)
    crops = [next(patches.batches(found, 5, 16, 2, seed=3, step=step))[0] for step in range(4)]
    for pixels in (found.inputs, *crops):
        assert np.array_equal(pixels[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2), pixels)


def test_a_seed_gives_the_same_patches_and_shards_that_are_there_are_kept(media, tmp_path):
    first, _ = make(media, tmp_path / "a")
    again, _ = make(media, tmp_path / "b", shards=1)
    more, messages = make(media, tmp_path / "b")
    other, _ = make(media, tmp_path / "c", seed=2)
    assert np.array_equal(first.inputs[:4], again.inputs)
    assert np.array_equal(first.inputs, more.inputs)
    assert len(messages) == 1
    assert not np.array_equal(first.inputs, other.inputs)


def test_targets_of_twice_the_scale_are_halved(media, tmp_path):
    found, _ = make(media, tmp_path / "a", scale=1)
    inner = (slice(None), slice(4, -4), slice(4, -4))
    assert found.targets.shape == found.inputs.shape
    assert np.abs(found.targets[inner].astype(int) - found.inputs[inner]).mean() < 6


def test_a_batch_has_crops_and_what_belongs_to_them(media, tmp_path):
    found, _ = make(media, tmp_path / "a")
    inputs, targets = next(patches.batches(found, 5, 16, 2, seed=3, step=7))
    assert inputs.shape == (5, 16, 16, 3)
    assert np.array_equal(targets, inputs.repeat(2, axis=1).repeat(2, axis=2))
