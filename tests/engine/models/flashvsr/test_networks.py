"""FlashVSR's networks: decoding in parts, noise, rotations and tokens."""

import importlib
import os

import numpy as np
import pytest

from upres.engine.models.flashvsr.loading import load_token_cuts
from upres.engine.models.flashvsr.networks import Decoder, draw_noise, rotation
from upres.engine.models.flashvsr.tiles import Tile
from upres.engine.models.flashvsr.tokens import TokenCut
from upres.engine.runtime.ort_at_once import GraphAtOnce
from upres.engine.runtime.ring.resident import Resident

torch = importlib.import_module("torch") if os.environ.get("CI") else pytest.importorskip("torch")


def test_decoding_in_parts_is_exact(folder):
    graph = GraphAtOnce(folder / "decoder.onnx", 2)
    height, width = 272, 528
    whole, parts = Decoder(graph, height, width), Decoder(graph, height, width, part=300)
    source = np.random.default_rng(0)
    for decoder in (whole, parts):
        decoder.start()
    for _ in range(2):
        frames = source.integers(0, 256, (4, height, width, 3), dtype=np.uint8)
        latents = source.standard_normal((1, 16, height // 8, width // 8), np.float32)
        assert np.abs(whole.push(latents, frames) - parts.push(latents, frames)).max() < 1e-6


def test_noise_depends_on_its_place_only():
    field = draw_noise(3, 5, 8, 12)
    assert (draw_noise(3, 5, 4, 7) == field[:, :4, :7]).all()
    assert not (draw_noise(3, 6, 8, 12) == field).any()
    many = np.stack([draw_noise(0, latent, 16, 16) for latent in range(40)])
    assert abs(many.mean()) < 0.01
    assert abs(many.std() - 1) < 0.01


def test_rotations_only_differ_by_the_distance_however_far():
    def turned(position):
        cos, sin = rotation(position, (2, 8, 8), 32)
        return cos[64] + 1j * sin[64], cos[0] + 1j * sin[0]

    near, far = (b * a.conj() for b, a in (turned(0), turned(1_000_000)))
    assert np.abs(near - far).max() < 1e-6


@pytest.mark.parametrize("count", [2, 6])
def test_the_tokens_of_a_tile_are_cut_from_those_of_the_frame(folder, count):
    graph = GraphAtOnce(folder / "decoder.onnx", 1)
    tokens, resident = np.random.default_rng(0).standard_normal((count, 1, 5 * 7, 3), np.float32), Resident(graph)
    cut = TokenCut(load_token_cuts(graph), 7 * 16)
    part = cut([resident.upload(each) for each in tokens], Tile(16, 32, 48, 64))
    expected = tokens.reshape(count, 5, 7, 3)[:, 1:4, 2:6].reshape(1, -1, 3)
    cut_tokens = part.memory.array.view(np.float32)[: expected.size].reshape(part.spec.shape)
    np.testing.assert_array_equal(cut_tokens, expected)
