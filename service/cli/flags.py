"""Conversion of the setting names in the engine's messages, and of other programs' options, to the flags of this command line."""

import os
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upres.engine.pipeline.advice import Rule

SAME_NAMES = (
    "codec",
    "compare",
    "container",
    "content",
    "crf",
    "duration",
    "height",
    "lossless",
    "model",
    "nvdec",
    "nvenc",
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
FLAGS = {name: f"--{name}" for name in (*SAME_NAMES, "tonemap", "yes")}
FLAGS |= {"models": "--chain", "prefilters": "--prefilter"}
FOREIGN_OPTIONS = {
    "--model": ("--model-name", "--model_name", "--processor", "-p", "--realesrgan-model", "--realcugan-model"),
    "--model; for a noise level, --prefilter denoise": ("-n",),
    "--scale": ("--outscale", "--factor", "--ratio", "--upscale", "--scaling-factor"),
    "--height, for example --height 1080; the width follows": ("--width", "-w", "--size", "--resolution"),
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
    "--duration; the tile size is chosen automatically": ("-t",),
    "--duration": ("--time",),
    "--rate for numbered images; a video keeps its own": ("-r", "-framerate", "--fps", "--framerate"),
    "--runtime": ("-g", "--gpu", "--gpu-id", "--device", "--backend", "-d"),
    "--quality": ("--fp16", "--fp32", "--half", "--bf16"),
    "the suffix of OUT, or --container for several results": ("-f", "--format", "--ext", "--extension"),
    "the name of OUT": ("--suffix",),
    "chosen automatically": (
        "--tile",
        "--tile-size",
        "--tile_size",
        "--tile_pad",
        "--pre_pad",
        "--threads",
        "-threads",
        "-j",
    ),
    "not supported: every frame goes through the network once": ("-x", "--tta"),
    "not supported: faces are upscaled like everything else": ("--face_enhance", "--face-enhance"),
    "--overwrite": ("--force", "--replace"),
}
"""Options of ffmpeg, Video2X, realesrgan-ncnn-vulkan, Real-ESRGAN's script and other programs, by their equivalent here."""
FOREIGN_COMMANDS = {
    "upres IN [OUT]": ("upscale", "enhance", "convert", "process", "video", "image"),
    "upres probe": ("info", "inspect", "identify", "show"),
    "upres models": ("list", "ls"),
    "upres pull": ("download", "install", "fetch"),
    "upres serve": ("server", "start", "web", "gui", "ui", "api"),
}
"""Words that other programs use for our commands."""
SETTING = re.compile(r"`(\w+)`")


def with_flags(text: str) -> str:
    """Replace the setting names in a message, which are in backticks, with the flags that set them."""
    return SETTING.sub(lambda match: FLAGS.get(match[1], match[0]), text)


def option_for(rule: "Rule") -> str:
    """Return the option that a rule recommends; empty if it recommends none."""
    if rule.setting is None:
        return ""
    name, value = rule.setting
    return FLAGS[name] if value is True else f"{FLAGS[name]} {value}"


def equivalents(args: Iterable[str]) -> Iterator[str]:
    """Yield the equivalents of other programs' options, and how to write the name of an existing file that looks like an option."""
    here = {typed: name for name, every in FOREIGN_OPTIONS.items() for typed in every}
    for arg in args:
        name = arg.partition("=")[0]
        if name in here:
            yield f"here, {name} is {here[name]}"
        elif arg.startswith("-") and os.path.lexists(arg) and arg != "-":
            yield f"for the file of that name, write ./{arg}"


def equivalent_commands(word: str) -> Iterator[str]:
    """Yield our command for a first word that is not a command here, but is one in other programs."""
    return (f"here, that is `{name}`" for name, words in FOREIGN_COMMANDS.items() if word in words)
