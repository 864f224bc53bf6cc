from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Delivery(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DELIVERY_UNSPECIFIED: _ClassVar[Delivery]
    DELIVERY_SEGMENTS: _ClassVar[Delivery]
    DELIVERY_FRAMES: _ClassVar[Delivery]

class WhenSlow(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WHEN_SLOW_UNSPECIFIED: _ClassVar[WhenSlow]
    WHEN_SLOW_WAIT: _ClassVar[WhenSlow]
    WHEN_SLOW_DROP: _ClassVar[WhenSlow]
DELIVERY_UNSPECIFIED: Delivery
DELIVERY_SEGMENTS: Delivery
DELIVERY_FRAMES: Delivery
WHEN_SLOW_UNSPECIFIED: WhenSlow
WHEN_SLOW_WAIT: WhenSlow
WHEN_SLOW_DROP: WhenSlow

class UpscaleConfig(_message.Message):
    __slots__ = ("model", "scale", "content", "prefilters", "codec", "crf", "preset", "segment_seconds", "split", "delivery", "live", "when_slow", "tonemap", "models", "live_source", "step_down", "source_name")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    PREFILTERS_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    CRF_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    WHEN_SLOW_FIELD_NUMBER: _ClassVar[int]
    TONEMAP_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    LIVE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    STEP_DOWN_FIELD_NUMBER: _ClassVar[int]
    SOURCE_NAME_FIELD_NUMBER: _ClassVar[int]
    model: str
    scale: int
    content: str
    prefilters: _containers.RepeatedScalarFieldContainer[str]
    codec: str
    crf: int
    preset: str
    segment_seconds: float
    split: bool
    delivery: Delivery
    live: bool
    when_slow: WhenSlow
    tonemap: bool
    models: _containers.RepeatedScalarFieldContainer[str]
    live_source: str
    step_down: bool
    source_name: str
    def __init__(self, model: _Optional[str] = ..., scale: _Optional[int] = ..., content: _Optional[str] = ..., prefilters: _Optional[_Iterable[str]] = ..., codec: _Optional[str] = ..., crf: _Optional[int] = ..., preset: _Optional[str] = ..., segment_seconds: _Optional[float] = ..., split: bool = ..., delivery: _Optional[_Union[Delivery, str]] = ..., live: bool = ..., when_slow: _Optional[_Union[WhenSlow, str]] = ..., tonemap: bool = ..., models: _Optional[_Iterable[str]] = ..., live_source: _Optional[str] = ..., step_down: bool = ..., source_name: _Optional[str] = ...) -> None: ...

class JobError(_message.Message):
    __slots__ = ("code", "reason", "message", "retryable")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    code: str
    reason: str
    message: str
    retryable: bool
    def __init__(self, code: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., retryable: bool = ...) -> None: ...

class Totals(_message.Message):
    __slots__ = ("frames_in", "frames_out", "frames_resumed", "stage_seconds", "duration_seconds", "bytes", "frames_dropped")
    class StageSecondsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    FRAMES_IN_FIELD_NUMBER: _ClassVar[int]
    FRAMES_OUT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_RESUMED_FIELD_NUMBER: _ClassVar[int]
    STAGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    FRAMES_DROPPED_FIELD_NUMBER: _ClassVar[int]
    frames_in: int
    frames_out: int
    frames_resumed: int
    stage_seconds: _containers.ScalarMap[str, float]
    duration_seconds: float
    bytes: int
    frames_dropped: int
    def __init__(self, frames_in: _Optional[int] = ..., frames_out: _Optional[int] = ..., frames_resumed: _Optional[int] = ..., stage_seconds: _Optional[_Mapping[str, float]] = ..., duration_seconds: _Optional[float] = ..., bytes: _Optional[int] = ..., frames_dropped: _Optional[int] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("request_id", "status", "progress", "config", "source_offset", "accepted", "attempts", "error", "totals", "created_at", "started_at", "ended_at", "warnings")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATUS_UNSPECIFIED: _ClassVar[Job.Status]
        STATUS_PENDING: _ClassVar[Job.Status]
        STATUS_PROCESSING: _ClassVar[Job.Status]
        STATUS_DONE: _ClassVar[Job.Status]
        STATUS_ERROR: _ClassVar[Job.Status]
    STATUS_UNSPECIFIED: Job.Status
    STATUS_PENDING: Job.Status
    STATUS_PROCESSING: Job.Status
    STATUS_DONE: Job.Status
    STATUS_ERROR: Job.Status
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    SOURCE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    status: Job.Status
    progress: float
    config: UpscaleConfig
    source_offset: int
    accepted: bool
    attempts: int
    error: JobError
    totals: Totals
    created_at: _timestamp_pb2.Timestamp
    started_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., status: _Optional[_Union[Job.Status, str]] = ..., progress: _Optional[float] = ..., config: _Optional[_Union[UpscaleConfig, _Mapping]] = ..., source_offset: _Optional[int] = ..., accepted: bool = ..., attempts: _Optional[int] = ..., error: _Optional[_Union[JobError, _Mapping]] = ..., totals: _Optional[_Union[Totals, _Mapping]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class SourceChunk(_message.Message):
    __slots__ = ("offset", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Cursor(_message.Message):
    __slots__ = ("track", "segment", "fragment")
    TRACK_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    track: str
    segment: int
    fragment: int
    def __init__(self, track: _Optional[str] = ..., segment: _Optional[int] = ..., fragment: _Optional[int] = ...) -> None: ...

class TrackInit(_message.Message):
    __slots__ = ("track", "codec", "time_base_numerator", "time_base_denominator", "start", "init", "language", "disposition")
    TRACK_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    TIME_BASE_NUMERATOR_FIELD_NUMBER: _ClassVar[int]
    TIME_BASE_DENOMINATOR_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    INIT_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    DISPOSITION_FIELD_NUMBER: _ClassVar[int]
    track: str
    codec: str
    time_base_numerator: int
    time_base_denominator: int
    start: int
    init: bytes
    language: str
    disposition: int
    def __init__(self, track: _Optional[str] = ..., codec: _Optional[str] = ..., time_base_numerator: _Optional[int] = ..., time_base_denominator: _Optional[int] = ..., start: _Optional[int] = ..., init: _Optional[bytes] = ..., language: _Optional[str] = ..., disposition: _Optional[int] = ...) -> None: ...

class Fragment(_message.Message):
    __slots__ = ("track", "segment", "fragment", "independent", "last_in_segment", "pts", "duration", "crc32c", "size", "offset", "data", "frames")
    TRACK_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    INDEPENDENT_FIELD_NUMBER: _ClassVar[int]
    LAST_IN_SEGMENT_FIELD_NUMBER: _ClassVar[int]
    PTS_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    track: str
    segment: int
    fragment: int
    independent: bool
    last_in_segment: bool
    pts: int
    duration: int
    crc32c: int
    size: int
    offset: int
    data: bytes
    frames: int
    def __init__(self, track: _Optional[str] = ..., segment: _Optional[int] = ..., fragment: _Optional[int] = ..., independent: bool = ..., last_in_segment: bool = ..., pts: _Optional[int] = ..., duration: _Optional[int] = ..., crc32c: _Optional[int] = ..., size: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., frames: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("percent", "totals", "warnings", "live_late_seconds", "network")
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    LIVE_LATE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    percent: float
    totals: Totals
    warnings: _containers.RepeatedScalarFieldContainer[str]
    live_late_seconds: float
    network: str
    def __init__(self, percent: _Optional[float] = ..., totals: _Optional[_Union[Totals, _Mapping]] = ..., warnings: _Optional[_Iterable[str]] = ..., live_late_seconds: _Optional[float] = ..., network: _Optional[str] = ...) -> None: ...

class Dropped(_message.Message):
    __slots__ = ("track", "segment", "fragment", "frames")
    TRACK_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    track: str
    segment: int
    fragment: int
    frames: int
    def __init__(self, track: _Optional[str] = ..., segment: _Optional[int] = ..., fragment: _Optional[int] = ..., frames: _Optional[int] = ...) -> None: ...

class UpscaleRequest(_message.Message):
    __slots__ = ("config", "attach", "chunk", "end")
    class Attach(_message.Message):
        __slots__ = ("request_id", "cursors")
        REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
        CURSORS_FIELD_NUMBER: _ClassVar[int]
        request_id: str
        cursors: _containers.RepeatedCompositeFieldContainer[Cursor]
        def __init__(self, request_id: _Optional[str] = ..., cursors: _Optional[_Iterable[_Union[Cursor, _Mapping]]] = ...) -> None: ...
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    ATTACH_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    config: UpscaleConfig
    attach: UpscaleRequest.Attach
    chunk: SourceChunk
    end: bool
    def __init__(self, config: _Optional[_Union[UpscaleConfig, _Mapping]] = ..., attach: _Optional[_Union[UpscaleRequest.Attach, _Mapping]] = ..., chunk: _Optional[_Union[SourceChunk, _Mapping]] = ..., end: bool = ...) -> None: ...

class UpscaleResponse(_message.Message):
    __slots__ = ("accepted", "track", "fragment", "progress", "source_offset", "job", "dropped")
    class Accepted(_message.Message):
        __slots__ = ("request_id", "config", "source_offset", "hls")
        REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
        CONFIG_FIELD_NUMBER: _ClassVar[int]
        SOURCE_OFFSET_FIELD_NUMBER: _ClassVar[int]
        HLS_FIELD_NUMBER: _ClassVar[int]
        request_id: str
        config: UpscaleConfig
        source_offset: int
        hls: str
        def __init__(self, request_id: _Optional[str] = ..., config: _Optional[_Union[UpscaleConfig, _Mapping]] = ..., source_offset: _Optional[int] = ..., hls: _Optional[str] = ...) -> None: ...
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    TRACK_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    accepted: UpscaleResponse.Accepted
    track: TrackInit
    fragment: Fragment
    progress: Progress
    source_offset: int
    job: Job
    dropped: Dropped
    def __init__(self, accepted: _Optional[_Union[UpscaleResponse.Accepted, _Mapping]] = ..., track: _Optional[_Union[TrackInit, _Mapping]] = ..., fragment: _Optional[_Union[Fragment, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., source_offset: _Optional[int] = ..., job: _Optional[_Union[Job, _Mapping]] = ..., dropped: _Optional[_Union[Dropped, _Mapping]] = ...) -> None: ...

class ListLiveSourcesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListLiveSourcesResponse(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class CreateJobRequest(_message.Message):
    __slots__ = ("begin", "chunk", "end")
    class Begin(_message.Message):
        __slots__ = ("request_id", "config")
        REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
        CONFIG_FIELD_NUMBER: _ClassVar[int]
        request_id: str
        config: UpscaleConfig
        def __init__(self, request_id: _Optional[str] = ..., config: _Optional[_Union[UpscaleConfig, _Mapping]] = ...) -> None: ...
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    begin: CreateJobRequest.Begin
    chunk: SourceChunk
    end: bool
    def __init__(self, begin: _Optional[_Union[CreateJobRequest.Begin, _Mapping]] = ..., chunk: _Optional[_Union[SourceChunk, _Mapping]] = ..., end: bool = ...) -> None: ...

class CreateJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class GetJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "status")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    status: Job.Status
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., status: _Optional[_Union[Job.Status, str]] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class CancelJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class DeleteJobRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class DeleteJobResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("request_id", "cursor")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    cursor: int
    def __init__(self, request_id: _Optional[str] = ..., cursor: _Optional[int] = ...) -> None: ...

class WatchJobResponse(_message.Message):
    __slots__ = ("cursor", "event", "job", "at")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    cursor: int
    event: str
    job: Job
    at: _timestamp_pb2.Timestamp
    def __init__(self, cursor: _Optional[int] = ..., event: _Optional[str] = ..., job: _Optional[_Union[Job, _Mapping]] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ReadResultRequest(_message.Message):
    __slots__ = ("request_id", "log", "file")
    class Log(_message.Message):
        __slots__ = ("cursors",)
        CURSORS_FIELD_NUMBER: _ClassVar[int]
        cursors: _containers.RepeatedCompositeFieldContainer[Cursor]
        def __init__(self, cursors: _Optional[_Iterable[_Union[Cursor, _Mapping]]] = ...) -> None: ...
    class File(_message.Message):
        __slots__ = ("offset",)
        OFFSET_FIELD_NUMBER: _ClassVar[int]
        offset: int
        def __init__(self, offset: _Optional[int] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    log: ReadResultRequest.Log
    file: ReadResultRequest.File
    def __init__(self, request_id: _Optional[str] = ..., log: _Optional[_Union[ReadResultRequest.Log, _Mapping]] = ..., file: _Optional[_Union[ReadResultRequest.File, _Mapping]] = ...) -> None: ...

class ReadResultResponse(_message.Message):
    __slots__ = ("track", "fragment", "chunk", "job", "dropped")
    class FileChunk(_message.Message):
        __slots__ = ("offset", "data")
        OFFSET_FIELD_NUMBER: _ClassVar[int]
        DATA_FIELD_NUMBER: _ClassVar[int]
        offset: int
        data: bytes
        def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...
    TRACK_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    track: TrackInit
    fragment: Fragment
    chunk: ReadResultResponse.FileChunk
    job: Job
    dropped: Dropped
    def __init__(self, track: _Optional[_Union[TrackInit, _Mapping]] = ..., fragment: _Optional[_Union[Fragment, _Mapping]] = ..., chunk: _Optional[_Union[ReadResultResponse.FileChunk, _Mapping]] = ..., job: _Optional[_Union[Job, _Mapping]] = ..., dropped: _Optional[_Union[Dropped, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("slug", "scales", "longest", "available", "unavailable_reason")
    SLUG_FIELD_NUMBER: _ClassVar[int]
    SCALES_FIELD_NUMBER: _ClassVar[int]
    LONGEST_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    UNAVAILABLE_REASON_FIELD_NUMBER: _ClassVar[int]
    slug: str
    scales: _containers.RepeatedScalarFieldContainer[int]
    longest: _duration_pb2.Duration
    available: bool
    unavailable_reason: str
    def __init__(self, slug: _Optional[str] = ..., scales: _Optional[_Iterable[int]] = ..., longest: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., available: bool = ..., unavailable_reason: _Optional[str] = ...) -> None: ...
