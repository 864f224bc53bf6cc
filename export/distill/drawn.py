"""Generated pictures of content that no clip here shows: text, subtitles, user interfaces, line art, flat saturated areas."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from upres.engine.core.frame import Pixels

from . import video
from .sources import Media

_MATPLOTLIB = "matplotlib==3.11.2"
FONTS = (Media(_MATPLOTLIB, "STIXGeneral.ttf"), Media(_MATPLOTLIB, "DejaVuSansMono-BoldOblique.ttf"), None)
"""Fonts to draw with; None is Pillow's default font."""
RATES = (20, None, 26)
"""H.264 rates (CRF) that every kind is compressed at; None leaves the drawing uncompressed."""

Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Fonts = Sequence[Path | None]
_TEXT = (
    "the quick brown fox jumps over lazy dog while return import def class self.value = 0x1F; if (i < n) { print(x) } "
    "where are you going? I know, but never mind! Über çà Привет мир Ελλάδα 12:45 -- 3.14159 [OK] Cancel File Edit View"
)


def draw(kind: str, under: Pixels, fonts: Fonts, rate: int | None, rng: np.random.Generator) -> Pixels:
    """Draw a picture of a kind over another picture, which stays visible behind subtitles; rate: see RATES."""
    image = Image.fromarray(under)
    KINDS[kind](ImageDraw.Draw(image), image.size, fonts, rng)
    pixels = np.asarray(image, np.uint8)
    return pixels if rate is None else video.compressed([pixels], rate)[0]


def text(pen: ImageDraw.ImageDraw, size: tuple[int, int], fonts: Fonts, rng: np.random.Generator) -> None:
    """Fill the picture with small lines of text, dark on light, light on dark or in colors."""
    paper, ink = _paper_and_ink(rng)
    pen.rectangle((0, 0, *size), paper)
    height = int(rng.integers(9, 24))
    font, at = _font(fonts, height, rng), 1.0
    while at < size[1]:
        pen.text((int(rng.integers(0, 12)), at), _line(rng, 2 * size[0] // height), ink, font)
        at += 1.25 * height
        if rng.random() < 0.2:
            ink = _contrasting_color(paper, rng)


def subtitles(pen: ImageDraw.ImageDraw, size: tuple[int, int], fonts: Fonts, rng: np.random.Generator) -> None:
    """Draw one or two lines of text in the lower part, with outlined letters or on a box."""
    width, height = size
    letter = int(rng.integers(max(12, height // 12), max(14, height // 7)))
    font, boxed = _font(fonts, letter, rng), rng.random() < 0.25
    ink = ((255, 255, 255), (255, 255, 255), (255, 255, 0), (235, 235, 235), (0, 255, 255))[int(rng.integers(5))]
    for row in range(int(rng.integers(1, 3))):
        place = (width / 2, height - (row + 0.7) * 1.25 * letter)
        line = _line(rng, int(1.3 * width / letter))
        if boxed:
            pen.rectangle(pen.textbbox(place, line, font, "mm"), (0, 0, 0))
        pen.text(
            place, line, ink, font, "mm", stroke_width=0 if boxed else int(rng.integers(1, 3)), stroke_fill="black"
        )


def interface(pen: ImageDraw.ImageDraw, size: tuple[int, int], fonts: Fonts, rng: np.random.Generator) -> None:
    """Draw overlapping windows with one-pixel frames, bars, buttons, labels and small icons."""
    pen.rectangle((0, 0, *size), _color(rng))
    for _ in range(4):
        paper, ink = _paper_and_ink(rng)
        left, top = (int(rng.integers(-20, max(1, side - 40))) for side in size)
        right, bottom = (at + int(rng.integers(50, 200)) for at in (left, top))
        pen.rectangle((left, top, right, bottom), paper, ink)
        pen.rectangle((left, top, right, top + 12), _contrasting_color(paper, rng))
        height = int(rng.integers(9, 14))
        font = _font(fonts, height, rng)
        for row in range(top + 16, bottom - height, int(1.4 * height)):
            pen.rectangle((left + 4, row + 2, left + 10, row + 8), _vivid(rng), ink)
            pen.text((left + 14, row), _line(rng, int(1.5 * (right - left - 20) / height)), ink, font)


def line_art(pen: ImageDraw.ImageDraw, size: tuple[int, int], fonts: Fonts, rng: np.random.Generator) -> None:
    """Draw flat shapes with dark outlines and thin lines."""
    pen.rectangle((0, 0, *size), _paper_and_ink(rng)[0])
    for _ in range(14):
        box = sorted(rng.integers(-20, size[0] + 20, 2).tolist()), sorted(rng.integers(-20, size[1] + 20, 2).tolist())
        corners = (box[0][0], box[1][0], box[0][1] + 1, box[1][1] + 1)
        width, ink = int(rng.integers(1, 4)), (0, 0, 0) if rng.random() < 0.7 else _vivid(rng)
        kind = rng.integers(3)
        if kind == 0:
            pen.ellipse(corners, _color(rng), ink, width)
        elif kind == 1:
            pen.line([tuple(rng.integers(0, size).tolist()) for _ in range(5)], ink, width, "curve")
        else:
            pen.arc(corners, int(rng.integers(360)), int(rng.integers(360)), ink, width)


def flat(pen: ImageDraw.ImageDraw, size: tuple[int, int], fonts: Fonts, rng: np.random.Generator) -> None:
    """Fill the picture with blocks or stripes of saturated colors."""
    side = int(rng.choice((4, 6, 8, 12, 16, 24)))
    tall = side if rng.random() < 0.7 else size[1]
    for left in range(0, size[0], side):
        for top in range(0, size[1], tall):
            pen.rectangle((left, top, left + side - 1, top + tall - 1), _vivid(rng))


KINDS: dict[str, Callable[[ImageDraw.ImageDraw, tuple[int, int], Fonts, np.random.Generator], None]] = {
    "text": text,
    "subtitles": subtitles,
    "interface": interface,
    "line art": line_art,
    "flat colors": flat,
}


def _font(fonts: Fonts, height: int, rng: np.random.Generator) -> Font:
    path = fonts[int(rng.integers(len(fonts)))]
    return ImageFont.load_default(height) if path is None else ImageFont.truetype(path, height)


def _line(rng: np.random.Generator, letters: int) -> str:
    words, line = _TEXT.split(), ""
    while len(line) < letters:
        line += f"{words[int(rng.integers(len(words)))]} "
    return line[: max(1, letters)]


def _paper_and_ink(rng: np.random.Generator) -> tuple[Color, Color]:
    """Choose a background color and a text color."""
    light, dark = ((int(level),) * 3 for level in (rng.integers(235, 256), rng.integers(0, 40)))
    kind = rng.integers(4)
    if kind == 3:
        paper = _color(rng)
        return paper, _contrasting_color(paper, rng)
    return (light, dark) if kind else (dark, light)


def _contrasting_color(paper: Color, rng: np.random.Generator) -> Color:
    """Choose a color that is readable on another."""
    while True:
        color = _color(rng)
        if abs(sum(color) - sum(paper)) > 200:
            return color


def _color(rng: np.random.Generator) -> Color:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return _vivid(rng) if rng.random() < 0.3 else (red, green, blue)


def _vivid(rng: np.random.Generator) -> Color:
    red, green, blue = (255 * rng.integers(0, 2, 3)).tolist()
    return red, green, blue
