"""The commands that only print information: models, probe, licenses."""

import json as jsonlib
from importlib.metadata import files
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import typer

from upres.engine.decode.filters import PREFILTERS
from upres.engine.decode.info import Info
from upres.engine.decode.reader import Reader
from upres.engine.images.recognize import still_format
from upres.engine.models import registry
from upres.engine.models.catalog import NETWORKS, SLUGS
from upres.engine.pipeline import advice
from upres.engine.pipeline.advice import Measured

from .flags import option_for
from .photo import probe_image
from .run.piped import Piped

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def models(json: Json = False) -> None:
    """List the models and their networks, and which are installed."""
    rows = [_network(slug.slug, name) for slug in SLUGS.values() for name in slug.networks]
    if json:
        typer.echo(jsonlib.dumps(rows, indent=2))
        return
    for slug in SLUGS.values():
        scales = " or ".join(f"{scale}x" for scale in slug.scales)
        typer.echo(
            f"{slug.slug}  upscales {scales}; up to {slug.seconds} s per clip on a server with UPRES_LIMITS=deapi"
        )
        for row in (row for row in rows if row["model"] == slug.slug):
            measured = f", {row['psnr']} dB against its reference" if row["psnr"] else ""
            state = ", experimental" if row["experimental"] else ""
            typer.echo(f"  {row['network']:26} {row['content']:10} {row['here']}{measured}{state}")
    typer.echo("pre-filters, off by default:")
    for name, prefilter in PREFILTERS.items():
        typer.echo(f"  {name:26} {prefilter.what}")


def _network(slug: str, name: str) -> dict[str, Any]:
    network = NETWORKS[name]
    known = registry.installed(name)
    here_or_how = "ships" if network.ships else "here" if known else f"not here: {network.remedy}"
    return {
        "model": slug,
        "network": name,
        "content": network.content,
        "here": here_or_how,
        "experimental": registry.is_experimental(name),
        "halo": known.halo if known else None,
        "psnr": known.psnr if known else None,
        "licence": network.licence,
    }


def probe(
    source: Annotated[str, typer.Argument(metavar="FILE", help="A video, an image, or - for stdin.")],
    content: Annotated[
        str, typer.Option(help="auto, photo, animation or live: the kind of content, for the advice.")
    ] = "auto",
    json: Json = False,
) -> None:
    """Show the properties of a video or an image, and recommend a model and pre-filters, based on measurements of video frames."""
    registry.check_content(content)
    piped = Piped.look() if source == "-" else None
    what = source if piped is None else piped.source
    if piped.image if piped else still_format(source):
        assert isinstance(what, str | BytesIO)  # a piped image has been read whole
        probe_image(what, content, json=json)
        return
    with Reader(what, eight_bits=None) as reader:
        info, measured = reader.info, advice.measure(reader)
    clip = advice.describe(info, measured, content)
    facts, rules = _facts(info, measured, hdr=clip.hdr), advice.advise(clip)
    if json:
        say = [{"rule": rule.name, "say": rule.advice, "option": option_for(rule)} for rule in rules]
        typer.echo(jsonlib.dumps({**facts, "advice": say}, indent=2))
        return
    for name, value in (facts | _readable(facts, advice.in_words(measured))).items():
        typer.echo(f"{name:17} {value}")
    for rule in rules:
        typer.echo(f"- {rule.advice}{f'  ({option_for(rule)})' if rule.setting else ''}")


def _facts(info: Info, measured: Measured, *, hdr: bool) -> dict[str, Any]:
    """Collect the facts that --json prints; None if the source does not state one."""
    shape = info.shape
    return {
        "container": info.container,
        "video": {
            "codec": info.codec,
            "width": shape.width,
            "height": shape.height,
            "pixel_format": info.pixel_format,
            "fps": round(float(shape.rate), 3),
        },
        "seconds": info.seconds,
        "frames": info.frames,
        "color": " ".join((shape.color.matrix, shape.color.range, shape.color.transfer)),
        "bits": info.bits,
        "hdr": hdr,
        "rotation": 90 * info.orientation.turns,
        "sample_aspect": str(shape.sample_aspect),
        "audio": ", ".join(info.audio) or "none",
        "subtitles": ", ".join(info.subtitles) or "none",
        "interlaced_share": round(measured.interlaced, 2),
        "blocks": round(measured.blocks, 2),
        "noise": round(measured.noise, 2),
    }


def _result_depth(facts: dict[str, Any]) -> str:
    """Describe the bit depth of the result."""
    if facts["bits"] <= 8 and not facts["hdr"]:
        return "the result has 8"
    return "the result has 10, as HEVC, if the model supports them"


def _readable(facts: dict[str, Any], words: dict[str, str]) -> dict[str, str]:
    """Format the facts whose text form differs from JSON."""
    video = facts["video"]
    return {
        "video": f"{video['codec']} {video['width']}x{video['height']} {video['pixel_format']}, {video['fps']:.3f} fps",
        "bits": f"{facts['bits']}; {_result_depth(facts)}",
        "hdr": "yes; it is kept, or converted to SDR with --tonemap" if facts["hdr"] else "no",
        "interlaced_share": f"{facts['interlaced_share']} ({words['interlaced']})",
        "blocks": f"{facts['blocks']} ({words['blocks']})",
        "noise": f"{facts['noise']} ({words['noise']})",
        **{name: "unknown" for name in ("seconds", "frames") if facts[name] is None},
    }


def licenses() -> None:
    """Show the licences of the weights, the sample clip and the codecs, and what they require for redistribution."""
    for file in files("upres") or ():
        if file.name in ("NOTICE", "LICENSE"):
            typer.echo(Path(str(file.locate())).read_text())
