"""Numbered images as a source."""

from pathlib import Path

from upres.engine.decode.source import Opened, Source, sequence_of


class SequenceOpener:
    """Opener of numbered images as one video."""

    live, reconnect = False, 0

    def open(self, source: Source, *, spool: bool) -> Opened:
        """Return the pattern for libavformat to open. Raises SourceError if there are no images or the numbers have gaps."""
        images = sequence_of(source)
        assert images is not None
        first, place = images.span()[0], Path(images.pattern).absolute()
        pattern = place.parent.as_posix().replace("%", "%%") + f"/{place.name}"
        options = {"framerate": str(images.rate), "start_number": str(first), "pattern_type": "sequence"}
        return Opened(pattern, again=True, options=options)
