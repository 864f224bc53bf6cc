"""Times as people write them, parsed exactly."""

import re
from fractions import Fraction

from upres.engine.core.errors import SettingsError

WRITTEN = re.compile(r"(?:(?:(\d{1,6}):)?(\d{1,6}):)?(\d{1,9}\.?\d{0,12}|\.\d{1,12})")


def exactly(option: str, text: str) -> Fraction:
    """Parse the seconds of an option's text; raises SettingsError where it is neither seconds nor [h:]m:s."""
    found = WRITTEN.fullmatch(text.strip())
    if found is not None:
        hours, minutes, seconds = (Fraction(part or 0) for part in found.groups())
        if (found[2] is None or seconds < 60) and (found[1] is None or minutes < 60):
            return 3600 * hours + 60 * minutes + seconds
    raise SettingsError(f"{option} must be seconds, as 90.5, or [h:]m:s, as 1:30.5 or 0:01:30.5; got {text!r}")
