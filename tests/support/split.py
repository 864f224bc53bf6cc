"""Logs made by one device and by several, to be compared."""

import json
from functools import partial
from pathlib import Path

from fake import Nearest, job

from upres.engine.decode.cut import Cut
from upres.engine.decode.reader import Reader
from upres.engine.encode.options import Encoder
from upres.engine.pipeline.options import fitted
from upres.engine.pipeline.progress import Progress
from upres.engine.pipeline.run import run
from upres.engine.ranges.run import run_on
from upres.engine.segments.folder import FolderLog

QUICK = Encoder(segment_seconds=0.5, preset="ultrafast")


def content(log):
    """All that a log holds, but for the order in which its tracks came."""
    fragments = {name: log.fragments(name) for name in log.tracks}
    bodies = {name: [log.read(fragment) for fragment in fragments[name]] for name in fragments}
    return log.header, log.tracks, log.extras, fragments, bodies


def made(clip, folder, *companions, model=None, tick=lambda: None, **settings):
    """The content of the log that a job and its companions make, and how that went."""
    progress = Progress()
    with Reader(clip, cut=settings.get("cut", Cut()), eight_bits=None) as reader:
        wanted = fitted(job(Path("out.mkv"), model or Nearest(), **{"encoder": QUICK, **settings}), reader)
        log = FolderLog(folder, wanted.settings())
        try:
            how = partial(run_on, companions) if companions else run
            for _ in how(reader, wanted, log, progress, tick):
                pass
            return content(log), progress
        finally:
            log.close()


def ranges(folder):
    """How many ranges the job was planned in."""
    return len(json.loads((folder / "ranges" / "plan.json").read_bytes())["spans"])
