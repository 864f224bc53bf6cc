"""The report of `upres probe` on a still image."""

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import IO

import typer

from upres.engine.core.text import counted, number
from upres.engine.images.facts import Facts, facts_of
from upres.engine.models import registry
from upres.engine.pipeline import advice

PHOTOS, DRAWN = {4: "realesrgan-x4plus", 2: "realesrgan-x2plus"}, "realesrgan-x4plus-anime"
"""The networks that are recommended for photos, by scale, and for drawings."""


def probe_image(source: str | Path | IO[bytes], content: str, *, json: bool) -> None:
    """Print the properties of an image, and advice; raises SourceError if it cannot be read."""
    facts = facts_of(source)
    advised = list(_advice(facts, content))
    if json:
        say = [{"say": text, "option": option} for text, option in advised]
        typer.echo(jsonlib.dumps({**asdict(facts), "advice": say}, indent=2))
        return
    for name, value in _readable(facts).items():
        typer.echo(f"{name:17} {value}")
    for text, option in advised:
        typer.echo(f"- {text}{f'  ({option})' if option else ''}")


def _readable(facts: Facts) -> dict[str, str]:
    return {
        "image": f"{facts.format} {facts.width}x{facts.height}, {number(facts.width * facts.height / 1e6, 2)} million pixels",
        "color": f"{facts.color}, {counted(facts.bits, 'bit')} a channel",
        "profile": facts.profile or "none",
        "transparency": "yes; it is upscaled separately" if facts.transparent else "no",
        "exif": "no" if not facts.exif else "yes; its rotation is applied" if facts.turned else "yes",
    }


def _advice(facts: Facts, content: str) -> list[tuple[str, str]]:
    """Return recommendations, each with its option."""
    side = min(facts.width, facts.height)
    times = registry.scale_of(advice.model_for(side))
    words = {4: f"less than {advice.LARGE} pixels on a side: upscale 4 times", 2: "already large: upscale 2 times"}
    network = DRAWN if content == "animation" else PHOTOS[times]
    pull = "" if registry.is_installed(network) else f", after `upres pull {network}`"
    what = "animation" if content == "animation" else "photos"
    best = f"the best for {what}, and the slowest by far{pull}"
    return [(words[times], f"--scale {times}"), (best, f"--model {network}"), *((note, "") for note in facts.notes)]
