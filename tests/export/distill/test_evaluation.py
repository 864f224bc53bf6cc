"""Measures of a student: equal, softer and sharper frames, and means over files."""

import numpy as np
import pytest
from small_networks import frame

from upres.export.distill.evaluation import Measure, compare, means, measure


def test_equal_frames_differ_by_nothing():
    pixels = frame(20, 10)
    found = compare(pixels, pixels)
    assert found.psnr > 100
    assert found.gradients == 1


def test_a_softer_frame_has_smaller_gradients():
    pixels = frame(20, 10)
    found = compare(pixels // 2, pixels)
    assert found.gradients == pytest.approx(0.5, abs=0.02)
    assert 5 < found.psnr < 20


def test_every_way_is_measured_against_the_teacher():
    class Twice:
        scale = 2

        def __call__(self, pixels):
            return pixels.repeat(2, axis=0).repeat(2, axis=1)

    flat = np.full((8, 12, 3), 90, np.uint8)
    flat[:, 6:] = 180
    results = measure({"clip": [flat, flat], "picture": [flat]}, Twice(), {"student": Twice()})
    assert set(results["clip"]) == {"bicubic", "lanczos", "student"}
    assert results["clip"]["student"] == results["picture"]["student"]
    assert means(results)["student"].gradients == 1
    assert results["clip"]["student"].psnr > 100 > results["clip"]["bicubic"].psnr > 25


def test_a_mean_weighs_every_file_alike():
    found = means({"a": {"x": Measure(30, 1.0)}, "b": {"x": Measure(40, 0.5)}})
    assert found == {"x": Measure(35, 0.75)}
