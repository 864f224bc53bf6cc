"""Report of options that were set but have no effect: listed together, once for each kind of result."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import Enum

from upres.service.cli.console import Report

from .options import EncodingOptions, RunOptions, SourceOptions

ENCODER_OPTIONS = ("codec", "crf", "preset", "encoder_option", "pix_fmt", "segment")
TIME_OPTIONS = ("start", "duration", "prefilter", "split")
FLAGS = {"at": "--still"}
"""Flags of fields whose name differs."""


class Kind(Enum):
    """A kind of result: the beginning of the note about it, and the option fields that it does not use."""

    STILL = (
        "a still image does not use",
        (*ENCODER_OPTIONS, "container", *TIME_OPTIONS, "at", "rate", "tonemap", "nvdec", "resume"),
    )
    FRAME = ("a frame as an image does not use", (*ENCODER_OPTIONS, "container", *TIME_OPTIONS, "nvdec", "resume"))
    IMAGES = ("images do not use", (*ENCODER_OPTIONS, "container"))
    FILE = ("a file whose name has a suffix does not use", ("container",))
    STREAM = ("standard output does not use", ("resume", "overwrite", "skip_existing"))


@dataclass(frozen=True, slots=True)
class Unused:
    """The options of a command line that were set."""

    report: Report
    set_options: frozenset[str]
    _reported: set[Kind] = field(default_factory=set)

    @classmethod
    def of(cls, report: Report, *groups: EncodingOptions | SourceOptions | RunOptions) -> "Unused":
        """Collect the fields that differ from their defaults."""
        return cls(report, frozenset(_set(groups)))

    def note(self, kind: Kind) -> None:
        """Report the set options that a kind of result does not use, once."""
        words, names = kind.value
        if unused := [FLAGS.get(name, f"--{name.replace('_', '-')}") for name in names if name in self.set_options]:
            if kind not in self._reported:
                self.report.warn(f"{words} {', '.join(unused)}")
            self._reported.add(kind)


def _set(groups: Iterable[EncodingOptions | SourceOptions | RunOptions]) -> Iterable[str]:
    for group in groups:
        yield from (each.name for each in fields(group) if getattr(group, each.name) != each.default)
