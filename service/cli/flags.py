"""The engine's settings, which its messages name in backticks, as the flags of this command line; and other programs' options."""

import os
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upres.engine.pipeline.advice import Rule

SAME = (
    "codec",
    "compare",
    "container",
    "content",
    "crf",
    "duration",
    "height",
    "lossless",
    "model",
    "overwrite",
    "precision",
    "preset",
    "quality",
    "resume",
    "runtime",
    "scale",
    "segment",
    "split",
    "still",
)
FLAGS = {name: f"--{name}" for name in (*SAME, "tonemap", "yes")}
FLAGS |= {"models": "--chain", "prefilters": "--prefilter"}
ELSEWHERE = {
    "--model": ("--model-name", "--model_name", "--processor", "-p", "--realesrgan-model", "--realcugan-model"),
    "--model; a level of noise is --prefilter denoise": ("-n",),
    "--scale": ("--outscale", "--factor", "--ratio", "--upscale", "--scaling-factor"),
    "--height, as --height 1080; the width follows": ("--width", "-w", "--size", "--resolution"),
    "--prefilter or --height": ("-vf", "-filter:v", "--vf"),
    "--prefilter denoise": ("--denoise", "--noise", "--noise-level", "--denoise-level", "-dn", "--denoise_strength"),
    "--prefilter deinterlace": ("--deinterlace", "--yadif"),
    "--codec": ("-c:v", "-vcodec", "-codec:v", "--vcodec", "--encoder", "-c"),
    "--crf": ("-crf", "-qp", "-q:v"),
    "--preset": ("-preset",),
    "--encoder-option": ("-e", "--extra-encoder-option"),
    "--pix-fmt": ("-pix_fmt", "--pix_fmt", "--pixel-format"),
    "--start": ("-ss", "--ss", "--from"),
    "--duration, counted from --start": ("-to", "--to", "--end"),
    "--duration; the size of tiles is chosen by itself": ("-t",),
    "--duration": ("--time",),
    "--rate for numbered images; a video keeps its own": ("-r", "-framerate", "--fps", "--framerate"),
    "--runtime": ("-g", "--gpu", "--gpu-id", "--device", "--backend", "-d"),
    "--quality": ("--fp16", "--fp32", "--half", "--bf16"),
    "the end of OUT's name, or of several results --container": ("-f", "--format", "--ext", "--extension"),
    "the name of OUT": ("--suffix",),
    "chosen by itself": (
        "--tile",
        "--tile-size",
        "--tile_size",
        "--tile_pad",
        "--pre_pad",
        "--threads",
        "-threads",
        "-j",
    ),
    "not there: every frame goes through the network once": ("-x", "--tta"),
    "not there: faces are upscaled like all else": ("--face_enhance", "--face-enhance"),
    "--overwrite": ("--force", "--replace"),
}
"""What users of ffmpeg, Video2X, realesrgan-ncnn-vulkan, Real-ESRGAN's script and others type, by what it is here."""
SETTING = re.compile(r"`(\w+)`")


def in_flags(text: str) -> str:
    """Name settings in a message as a user of the command line sets them."""
    return SETTING.sub(lambda match: FLAGS.get(match[1], match[0]), text)


def option(rule: "Rule") -> str:
    """Write what a rule advises as an option, if anything."""
    if rule.setting is None:
        return ""
    name, value = rule.setting
    return FLAGS[name] if value is True else f"{FLAGS[name]} {value}"


def meant(args: Iterable[str]) -> Iterator[str]:
    """Say what options of other programs are here, and how a file is named that begins as an option does."""
    here = {typed: name for name, every in ELSEWHERE.items() for typed in every}
    for arg in args:
        name = arg.partition("=")[0]
        if name in here:
            yield f"here, {name} is {here[name]}"
        elif arg.startswith("-") and os.path.lexists(arg) and arg != "-":
            yield f"the file of that name: ./{arg}"
