"""The frame pipeline: read, pre-filter, upscale, encode. One generator that yields the result's fragments as they are published."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing

from upres.engine.core.errors import LogError
from upres.engine.core.frame import Frame, Shape
from upres.engine.decode.reader import OnPacket, Reader
from upres.engine.encode.captions import Captions
from upres.engine.encode.carriage import aspect_warnings
from upres.engine.encode.options import Encoder
from upres.engine.encode.passthrough import Passthrough
from upres.engine.encode.publisher import Publisher
from upres.engine.encode.video import pieces
from upres.engine.encode.video_track import VideoTrack
from upres.engine.models.chain import Chain
from upres.engine.segments.model import Fragment, Log

from .frames import Part, ahead, interlacing_warnings, model_frames
from .keep_up import KeepUp
from .options import Job, after_prefilters, resolved
from .progress import Progress
from .stage import Stage

AUDIO_SECONDS = 0.1  # length of an audio fragment if frames are published one by one


def run(
    reader: Reader, job: Job, log: Log, progress: Progress, tick: Callable[[], None] = lambda: None
) -> Generator[Fragment]:
    """Upscale an open source into a log, starting where the log ends; yield each fragment once it is published.

    tick: called after every encoded frame. Closing the generator stops every stage within the time of one tile.
    """
    publisher = Publisher(log)
    others = start_other_tracks(reader, job, publisher, progress)
    yield from _video(reader, job, publisher, progress, tick, on_packet=others.push)
    others.finish()
    yield from publisher.published()
    progress.warnings += [*others.notes, *reader.closing_notes]


def run_part(
    reader: Reader, job: Job, log: Log, part: Part, progress: Progress, tick: Callable[[], None] = lambda: None
) -> Generator[Fragment]:
    """Upscale the video of one part of a source into a separate log, without the other tracks. Otherwise as `run`.

    The segments equal those that a run of the whole source makes of the same frames, numbered from 0.
    """
    progress.repairs = reader.repairs
    yield from _video(reader, job, Publisher(log), progress, tick, part=part)
    progress.warnings += reader.notes


def start_other_tracks(reader: Reader, job: Job, publisher: Publisher, progress: Progress) -> Passthrough:
    """Start the tracks that are passed through rather than upscaled, and record all warnings known before the start."""
    shape = after_prefilters(reader.info.shape, job.prefilters)
    _, encoding = resolved(job, shape)
    progress.shape, progress.encoding, progress.repairs = shape, encoding, reader.repairs
    if job.encoder.live and publisher.log.tracks:
        raise LogError("a live log cannot be resumed: its encoder has been closed; start a new one")
    others = Passthrough(
        reader,
        publisher,
        container=job.container,
        seconds=_audio_seconds(job.encoder),
        streamed=job.streamed,
        rate=shape.rate,
        library=encoding.library,
    )
    aspect = aspect_warnings(job.container, encoding.library, shape.sample_aspect)
    choice = [encoding.why] if encoding.why else []
    warnings = [*reader.warnings, *others.warnings, *choice, *aspect, *interlacing_warnings(reader, job)]
    progress.warnings += [warning for warning in warnings if warning not in progress.warnings]
    return others


def _video(
    reader: Reader,
    job: Job,
    publisher: Publisher,
    progress: Progress,
    tick: Callable[[], None],
    *,
    part: Part | None = None,
    on_packet: OnPacket = lambda packet: None,
) -> Generator[Fragment]:
    shape = after_prefilters(reader.info.shape, job.prefilters)
    upscaled, encoding = resolved(job, shape)
    video = VideoTrack(publisher, upscaled.time_base, upscaled.light)
    first = video.resume_point(stateless=job.stateless)
    chain = Chain(job.models, progress.busy, live=job.encoder.live)
    captions = Captions()
    source = model_frames(reader, job, shape, progress, first=first, part=part, on_packet=on_packet, keep=captions.keep)
    keep_up = _keep_up_stage(source, shape, job, reader, progress) if job.keep_up else None
    read: Stage[Frame] = keep_up or ahead(source, shape, "read", reader.interrupt, live=job.encoder.live)
    results = chain.run(read.results())
    if keep_up:
        results = keep_up.tracked(results)

    def stop() -> None:
        read.stop()  # otherwise the models might wait indefinitely for a source that sends nothing
        chain.stop()

    with (
        read,
        ahead(results, upscaled, "infer", stop, live=job.encoder.live) as infer,
        closing(_unpublished(infer.results(), first, video.complete, progress, tick)) as unpublished,
        closing(
            pieces(
                unpublished,
                encoding,
                upscaled,
                at_shots=job.at_shots,
                captions=captions,
                encoders=job.encoders,
                open_encoder=job.open_encoder,
                following=keep_up.following if keep_up else None,
            )
        ) as encoded,
    ):
        for piece in encoded:
            video.push(piece)
            if job.encoder.live:
                progress.note_published(piece.pts)
            yield from publisher.published()
    progress.warnings += chain.notes


def _keep_up_stage(source: Iterator[Frame], shape: Shape, job: Job, reader: Reader, progress: Progress) -> KeepUp:
    return KeepUp(
        source,
        shape,
        progress.drop,
        reader.interrupt,
        count_waits=lambda: reader.waits,
        shares_cores=job.on_cpu,
        on_encoder_wait=progress.add_turn_wait,
        as_recorded=job.as_recorded,
    )


def _unpublished(
    frames: Iterator[Frame], first: int, complete: int, progress: Progress, tick: Callable[[], None]
) -> Generator[Frame]:
    """Yield the frames whose segments are not complete yet. first: number of the first frame.

    Others exist after a resume because models that remember earlier frames have to process these again.
    """
    progress.frames_resumed = progress.frames_out = complete
    for number, frame in enumerate(frames, first):
        if number < complete:
            continue
        with progress.busy("encode"):  # the encoder works until it asks this generator for the next frame
            yield frame
        progress.frames_out += 1
        tick()


def _audio_seconds(encoder: Encoder) -> float:
    """Return the length of an audio fragment: that of a segment, or short enough not to lag behind frames sent one by one."""
    return AUDIO_SECONDS if encoder.fragment == "frame" else encoder.segment_seconds
