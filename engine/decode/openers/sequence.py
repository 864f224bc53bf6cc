"""Numbered images as a source."""

from pathlib import Path

from upres.engine.decode.source import Opened, Source, sequence_of


class SequenceOpener:
    """Opens numbered images as one video."""

    live, reconnect = False, 0

    def open(self, source: Source, *, spool: bool) -> Opened:
        """Check that there are some, and that none is missing."""
        images = sequence_of(source)
        assert images is not None
        first, place = images.span()[0], Path(images.pattern).absolute()
        pattern = place.parent.as_posix().replace("%", "%%") + f"/{place.name}"
        options = {"framerate": str(images.rate), "start_number": str(first), "pattern_type": "sequence"}
        return Opened(pattern, again=True, options=options)
