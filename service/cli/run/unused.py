"""Options that were set and that what is made does not use: named together, once for each kind of result."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from enum import Enum

from upres.service.cli.console import Report

from .options import EncodingOptions, RunOptions, SourceOptions

OF_ENCODERS = ("codec", "crf", "preset", "encoder_option", "pix_fmt", "segment")
OF_TIME = ("start", "duration", "prefilter", "split")
FLAGS = {"at": "--still"}
"""Of fields whose option has another name."""


class Kind(Enum):
    """What is made, in words; and the fields of the options that it does not use."""

    STILL = ("a still image does not use", (*OF_ENCODERS, "container", *OF_TIME, "at", "rate", "tonemap", "resume"))
    FRAME = ("a frame as an image does not use", (*OF_ENCODERS, "container", *OF_TIME, "resume"))
    IMAGES = ("images do not use", (*OF_ENCODERS, "container"))
    FILE = ("a file, whose name says what it is, does not use", ("container",))
    STREAM = ("standard output does not use", ("resume", "overwrite", "skip_existing"))


@dataclass(frozen=True, slots=True)
class Unused:
    """The options of one command line. given: those that were set."""

    report: Report
    given: frozenset[str]
    _said: set[Kind] = field(default_factory=set)

    @classmethod
    def of(cls, report: Report, *groups: EncodingOptions | SourceOptions | RunOptions) -> "Unused":
        """Collect the fields that differ from what they are by default."""
        return cls(report, frozenset(_set(groups)))

    def note(self, kind: Kind) -> None:
        """Report what this kind of result does not use, once."""
        words, names = kind.value
        if unused := [FLAGS.get(name, f"--{name.replace('_', '-')}") for name in names if name in self.given]:
            if kind not in self._said:
                self.report.warn(f"{words} {', '.join(unused)}")
            self._said.add(kind)


def _set(groups: Iterable[EncodingOptions | SourceOptions | RunOptions]) -> Iterable[str]:
    for group in groups:
        yield from (each.name for each in fields(group) if getattr(group, each.name) != each.default)
