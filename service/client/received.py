"""State of a received stream, from which it is resumed after a lost connection without yielding anything twice."""

import asyncio

import google_crc32c

from upres.v2 import upscale_pb2 as pb

from .errors import RemoteError
from .send_buffer import SendBuffer

Part = pb.UpscaleResponse.Accepted | pb.TrackInit | pb.Fragment | pb.Dropped | pb.Progress | pb.Job


class Received:
    """The tracks, cursors and unfinished fragment of one stream."""

    def __init__(self, request_id: str = "") -> None:
        """Start a new job, or attach to an existing one."""
        self._request_id = request_id
        self._accepted = False
        self._tracks: set[str] = set()
        self._cursors: dict[str, pb.Cursor] = {}
        self._data = bytearray()

    def first_request(self, config: pb.UpscaleConfig) -> pb.UpscaleRequest:
        """Return the first message of a call. A partial fragment from before a lost connection is discarded."""
        self._data.clear()
        if not self._request_id:
            return pb.UpscaleRequest(config=config)
        cursors = self._cursors.values()
        return pb.UpscaleRequest(attach=pb.UpscaleRequest.Attach(request_id=self._request_id, cursors=cursors))

    def acknowledge(self, response: pb.UpscaleResponse, offset: "asyncio.Future[int]", send_buffer: SendBuffer) -> None:
        """Process the acknowledgement of the source in a response."""
        match response.WhichOneof("kind"):
            case "accepted":
                self._request_id = response.accepted.request_id
                offset.set_result(response.accepted.source_offset)
            case "source_offset":
                send_buffer.forget(response.source_offset)

    def extract(self, response: pb.UpscaleResponse) -> Part | None:
        """Return the part in a response for the caller; None for a repeated one or a partial fragment."""
        match response.WhichOneof("kind"):
            case "accepted" if not self._accepted:
                self._accepted = True
                return response.accepted
            case "track" if response.track.track not in self._tracks:
                self._tracks.add(response.track.track)
                return response.track
            case "fragment":
                return self._fragment(response.fragment)
            case "dropped":
                return response.dropped
            case "progress":
                return response.progress
            case "job":
                return response.job
        return None

    def _fragment(self, part: pb.Fragment) -> pb.Fragment | None:
        self._data += part.data
        if len(self._data) < part.size:
            return None
        data = bytes(self._data)
        self._data.clear()
        if google_crc32c.value(data) != part.crc32c:
            raise RemoteError(f"segment {part.segment} of {part.track} is damaged: its checksum does not match")
        self._cursors[part.track] = pb.Cursor(track=part.track, segment=part.segment, fragment=part.fragment)
        complete = pb.Fragment()
        complete.CopyFrom(part)
        complete.offset, complete.data = 0, data
        return complete
