"""The engine's settings, which its messages name in backticks, as the flags of this command line."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upres.engine.pipeline.advice import Rule

SAME = (
    "compare",
    "container",
    "duration",
    "height",
    "lossless",
    "model",
    "overwrite",
    "precision",
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
