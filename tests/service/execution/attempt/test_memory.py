"""The memory that an attempt waits for covers everything it uses besides its models."""

from types import SimpleNamespace

import media
import pytest
from fake import job

from upres.engine.decode.reader import Reader
from upres.service.execution.attempt import remote_encoder
from upres.service.execution.attempt.remote_encoder import with_memory


@pytest.mark.parametrize(("name", "kept"), [("in.vob", 32 << 20), ("in.mpg", 32 << 20), ("in.ts", 0)])
def test_packets_that_are_kept_while_tracks_are_looked_for_are_in_it(tmp_path, name, kept):
    requests = []
    model = SimpleNamespace(reserve=lambda width, height, media, *_, **__: requests.append(media) or 1)
    with Reader(media.clip(tmp_path / name, "-c:v", "mpeg2video")) as reader:
        with_memory(model, job(tmp_path / "out.mkv"), reader)
        with_memory(model, job(tmp_path / "out.mkv"), SimpleNamespace(info=reader.info, ahead=0))
    assert requests[0] - requests[1] == kept


@pytest.mark.parametrize("count", [1, 4])
def test_an_attempt_with_several_encoders_keeps_freed_memory(tmp_path, monkeypatch, count):
    calls = []
    monkeypatch.setattr(remote_encoder, "keep_freed_memory", lambda: calls.append(count))
    with Reader(media.clip(tmp_path / "in.mp4", "-c:v", "libx264")) as reader:
        model = SimpleNamespace(reserve=lambda *_, **__: count)
        assert with_memory(model, job(tmp_path / "out.mp4"), reader).encoders == count
    assert calls == [4] * (count > 1)
