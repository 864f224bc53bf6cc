"""One attempt at one job, in a separate process: from a source to a log and a joined file, resuming at the end of the log.

It holds no model and can access only its job's folder, so a malicious file can take down this process only. All results are in
the folder; the reports only announce them.
"""

import logging
import shutil
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av

from upres.engine.core.errors import LogError, LogLockedError, SourceError
from upres.engine.core.frame import Shape
from upres.engine.decode.openers.stream import peek
from upres.engine.decode.reader import Reader
from upres.engine.decode.source import Source
from upres.engine.encode.join.file import join
from upres.engine.live.step_down import stepping
from upres.engine.pipeline.options import Job, after_prefilters, fitted
from upres.engine.pipeline.run import run
from upres.engine.ranges.folder import Ranges
from upres.engine.ranges.maker import make_range
from upres.engine.ranges.plan import Plan
from upres.engine.ranges.split import plan_of, run_split
from upres.engine.segments.folder import FolderLog
from upres.engine.segments.model import Fragment
from upres.service.domain.checks import check_source, too_long
from upres.service.domain.errors import NoRoomError, TooLargeError
from upres.service.domain.spec import FORMATS, Limits, Spec
from upres.service.execution.channel import Channel
from upres.service.execution.encoding.log_encoder import started_by_nvenc
from upres.service.execution.order import Order
from upres.service.execution.pull.process import CONTAINER
from upres.service.live.attempt_socket import LiveReader, LiveSocket, SentLog
from upres.service.storage.job_folder import JobFolder

from .activity import Activity, ReadAhead
from .growing_source import GrowingSource
from .preview import jpeg
from .remote_encoder import with_memory
from .remote_model import RemoteModel
from .reporting import Reporter
from .split import RemoteRanges

MERGED_FRAMES = 10  # source frames of memory for an attempt that decodes only the first: 104 MiB were measured at 4K
LIVE_RATE = Fraction(60)  # maximum frame rate of a live source; higher rates from libavformat are guesses

INDEX_AT_END = "this MP4's index is at its end, so nothing can be decoded before the whole file has arrived"
NO_NVENC = "an NVIDIA GPU started to encode this, but the worker that resumes it has no NVENC: the CPU encodes it from the start"
SUBTITLES = "a stream carries video and audio only; subtitles are in the joined result, which `upres get` downloads"

logger = logging.getLogger(__name__)


class Attempt:
    """The run itself. An UpresError means that the job is at fault; any other exception is a bug and ends the process."""

    def __init__(self, order: Order, channel: Channel, live: LiveSocket | None, reporter: Reporter) -> None:
        self._live = live
        self._channel = channel
        self._reporter = reporter
        self._spec = Spec.from_json(order.spec)
        self._limits = Limits(**order.limits)
        self._folder = JobFolder(Path(order.folder))
        self._progress = reporter.progress
        self._activity = Activity(
            self._folder.path,
            self._progress,
            reporter.report if order.range_number is None else partial(reporter.send, "active"),
            lambda: live is not None and live.sending,
        )
        self._free_bytes = order.free_bytes
        self._devices = order.devices

    def run(self) -> dict[str, Any]:
        """Write the log and return the totals; a live source is processed as it arrives, any other is resumed and then joined."""
        model = self._model()
        self._progress.note_models((model,))
        if model.note:
            self._progress.warnings.append(model.note)
        job = self._job(model)
        with self._activity.reported():
            return self._run_whole(job, model) if self._live is None else self._run_live(job, model, self._live)

    def _job(self, model: RemoteModel) -> Job:
        """Return the engine's job. A resumed log keeps its encoder, GPU or CPU, because a log cannot mix the two.

        A new log uses the GPU if one of its encoders is free.
        """
        began = started_by_nvenc(self._folder.log)
        return self._spec.job(model, nvenc=model.nvenc if began is None else began and model.may_have_nvenc)

    def _model(self) -> RemoteModel:
        return RemoteModel(self._channel, self._spec.chain(), self._spec.content, steps=self._spec.step_down)

    def _run_live(self, job: Job, model: RemoteModel, live: LiveSocket) -> dict[str, Any]:
        self._activity.read = lambda: live.bytes_read
        formats = (CONTAINER,) if self._spec.live_source else FORMATS
        with LiveReader(live, formats=formats, tonemap=self._spec.tonemap) as reader:
            check_source(reader.info, self._spec, self._limits)
            self._check_pace(model, reader.info.shape)
            job = fitted(job, reader)
            job = with_memory(model, job, reader)
            log = SentLog(live, reader)
            tick, seconds = stepping(job.models, self._progress, self._reporter.tick), 0.0
            with closing(run(reader, job, log, self._progress, tick)) as fragments:
                for fragment in fragments:
                    if fragment.track == "video":
                        seconds = float((fragment.pts + fragment.duration) * log.tracks["video"].time_base)
                        self._check_length(seconds)
            self._reporter.report()
            return self._reporter.totals(self._progress.frames_out, seconds, paced=True)

    def _check_pace(self, model: RemoteModel, shape: Shape) -> None:
        """Raise ModelError if the model is not fast enough for live frames of this shape."""
        shape = after_prefilters(replace(shape, rate=min(shape.rate, LIVE_RATE)), self._spec.prefilters)
        model.check_live(shape.width, shape.height, float(shape.rate))

    def _run_whole(self, job: Job, model: RemoteModel) -> dict[str, Any]:
        with ExitStack() as closes:
            reader = closes.enter_context(self._reader(closes.enter_context(self._source()), model))
            check_source(reader.info, self._spec, self._limits)
            job = fitted(job, reader)
            if self._spec.streamed and reader.subtitles:
                self._progress.warnings.append(SUBTITLES)
            self._reporter.expected = reader.info.frames or round((reader.info.seconds or 0) * reader.info.shape.rate)
            # Reserve memory first: opening the log locks it for other processes and fixes which encoder writes it.
            ranges = Ranges(self._folder.log, _header(job))
            planned = plan_of(reader, job, ranges, self._devices) if self._in_ranges(ranges) else None
            merges = planned is not None and self._merges(planned, reader, model)
            if not merges:
                reader, job = self._undivided(reader, job, model, closes)
            with closing(self._log(job)) as log, _as_source_errors(fresh=not log.tracks):
                if planned is not None and ranges.plan is None:
                    ranges.keep(planned)
                for fragment in self._fragments(reader, job, log, model, planned if merges else None):
                    self._on_fragment(fragment, log)
                self._reporter.tick()
                self._write_preview(log)
                join(log, self._folder.joined, job.container)
                video = log.fragments("video")
                seconds = float((video[-1].pts + video[-1].duration) * log.tracks["video"].time_base)
                frames = sum(fragment.frames for fragment in video)
                return self._reporter.totals(frames, seconds, paced=self._spec.streamed)

    def _reader(self, source: Source, model: RemoteModel) -> Reader:
        return Reader(source, formats=FORMATS, tonemap=self._spec.tonemap, eight_bits=model.eight_bits)

    def _in_ranges(self, ranges: Ranges) -> bool:
        """Return whether other attempts process the job's ranges, or have processed some."""
        return not self._spec.streamed and bool(self._devices > 1 or (self._devices and ranges.plan))

    def _merges(self, planned: Plan, reader: Reader, model: RemoteModel) -> bool:
        """Wait for the memory to merge the planned ranges; False if there is only one range, or the memory never suffices."""
        if len(planned.spans) == 1:
            logger.info("one device works on it: %s", planned.why)
            return False
        try:
            model.merge(MERGED_FRAMES * reader.info.shape.frame_bytes // 2)
        except SourceError as error:
            logger.info("one device works on it: its ranges cannot be merged here (%s)", error)
            return False
        return True

    def _undivided(self, reader: Reader, job: Job, model: RemoteModel, closes: ExitStack) -> tuple[Reader, Job]:
        """Wait for the memory to process a job as a whole; return it with a source of which nothing was read yet."""
        if not reader.fresh:
            model = self._model()
            reader = closes.enter_context(self._reader(closes.enter_context(self._source()), model))
            job = fitted(self._job(model), reader)
        return reader, with_memory(model, job, reader, self._reporter.expected or None, log=self._folder.log)

    def _fragments(
        self, reader: Reader, job: Job, log: FolderLog, model: RemoteModel, planned: Plan | None
    ) -> Generator[Fragment]:
        """Write the log, from the planned ranges if others process them."""
        if planned is None:
            yield from run(reader, job, log, self._progress, self._reporter.tick)
            return

        def undivided(why: str | None) -> Generator[Fragment]:
            logger.info("one device works on it: %s", why)
            with ExitStack() as closes:
                yield from run(*self._undivided(reader, job, model, closes), log, self._progress, self._reporter.tick)

        remote_ranges = RemoteRanges(self._channel, self._activity.excused, self._reporter.tick)
        yield from run_split(
            reader,
            job,
            log,
            Ranges(log.folder, _header(job)),
            planned,
            remote_ranges.request,
            undivided,
            self._progress,
        )

    def run_range(self, number: int) -> None:
        """Process one range of a job whose plan is in its log's folder, unless it is complete already."""
        if Ranges(self._folder.log, {}).is_made(number):
            return
        model = self._model()
        with self._activity.reported(), self._source() as source, self._reader(source, model) as reader:
            job = fitted(self._job(model), reader)
            ranges = Ranges(self._folder.log, _header(job))
            plan = ranges.plan or Plan()
            job = with_memory(model, job, reader, log=self._folder.log)
            with closing(ranges.log(number)) as log:
                read = partial(self._reporter.send, "read")
                make_range(reader, job, log, plan.spans[number], self._progress, was_read=read)

    @contextmanager
    def _source(self) -> Iterator[Source]:
        """Open the source without its name, which must not appear in messages to clients."""
        if self._spec.streamed and not self._index_at_end():
            with self._open_growing() as growing:
                yield growing
        else:
            with self._folder.source.open("rb") as file:
                source = ReadAhead(file)
                self._activity.read = lambda: source.furthest
                yield source

    @contextmanager
    def _open_growing(self) -> Iterator[GrowingSource]:
        with closing(GrowingSource(self._folder, partial(self._reporter.send, "waiting"))) as growing:
            self._activity.read = lambda: growing.furthest
            yield growing

    def _index_at_end(self) -> bool:
        """Return whether the source can be decoded only once it is complete; if so, add a warning and wait for the rest."""
        with self._open_growing() as growing:
            late = peek(growing)[1]
            if late:
                self._progress.warnings.append(INDEX_AT_END)
                self._reporter.report()
                while growing.read():
                    pass
        return late

    def _log(self, job: Job) -> FolderLog:
        """Open the job's log. A log of another build, model or device cannot be resumed and is restarted."""
        header = _header(job)
        try:
            return FolderLog(self._folder.log, header)
        except LogLockedError:  # says nothing about the log's content
            raise
        except LogError as error:
            logger.warning("the log is restarted: %s", error)
            if started_by_nvenc(self._folder.log) and not job.encoder.nvenc:
                self._progress.warnings.append(NO_NVENC)
            FolderLog.discard(self._folder.log)
            return FolderLog(self._folder.log, header)

    def _on_fragment(self, fragment: Fragment, log: FolderLog) -> None:
        track = log.tracks[fragment.track]
        if fragment.track == "video":
            self._write_preview(log)
        self._reporter.send("fragment")
        if fragment.track == "video" and fragment.last:
            self._reporter.report()
        else:
            self._reporter.tick()
        if shutil.disk_usage(self._folder.path).free < self._free_bytes:
            raise NoRoomError("the server's disk is nearly full; submit the job again later")
        self._check_length(float((fragment.pts + fragment.duration) * track.time_base))

    def _write_preview(self, log: FolderLog) -> None:
        """Write the preview of the result's first frame, unless an earlier attempt has: it may have ended between the two."""
        first = log.fragments("video")[0]
        if first.independent and not self._folder.preview.exists():
            self._folder.put_preview(jpeg(log.tracks["video"].init + log.read(first)))

    def _check_length(self, seconds: float) -> None:
        longest = self._limits.longest(self._spec)
        if longest is not None and seconds > longest + 0.5:
            raise TooLargeError(too_long(self._spec, longest))


@contextmanager
def _as_source_errors(*, fresh: bool) -> Iterator[None]:
    """Convert LogError to SourceError if this attempt wrote the whole log: then the source must contradict itself."""
    try:
        yield
    except LogError as error:
        if not fresh:
            raise
        raise SourceError(f"the source contradicts itself, so that its tracks cannot be written ({error})") from error


def _header(job: Job) -> dict[str, Any]:
    return {"build": f"av {av.__version__}", **job.settings()}
