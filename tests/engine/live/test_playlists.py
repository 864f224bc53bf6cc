"""HLS as a live source: segments are played in real time, across an interruption, and only once."""

import media
import pytest
from live_runs import FRAMES, packets, run
from paths import SAMPLE
from web_files import WebFiles

from upres.engine.core.errors import SourceError
from upres.engine.decode.live import network
from upres.engine.decode.live.network import PlaylistOpener
from upres.engine.live.session import open_live

END = b"#EXT-X-ENDLIST\n"


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """Return one second of the sample with its audio, as a playlist that has ended."""
    folder = tmp_path_factory.mktemp("hls")
    codecs = ("-c:v", "libx264", "-g", 10, "-c:a", "aac", "-f", "hls", "-hls_time", "0.4", "-hls_list_size", 0)
    media.ffmpeg("-i", SAMPLE, "-t", "1", "-vf", "scale=160:90", *codecs, folder / "index.m3u8")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert files["index.m3u8"].endswith(END)
    return files | {"index.m3u8": files["index.m3u8"].replace(b"TARGETDURATION:0", b"TARGETDURATION:1")}


class Publisher(dict):
    """Files of a web server. The playlist announces more segments than exist, until everything was fetched a second time."""

    def __init__(self, files):
        super().__init__(files)
        self.last, self.fetched = max(name for name in files if name.endswith(".ts")), 0

    def get(self, name):
        self.fetched += name == self.last
        data = super().get(name)
        return data.removesuffix(END) if name == "index.m3u8" and self.fetched < 2 else data


def test_a_playlist_that_has_ended_is_shown_once(pieces, tmp_path):
    with WebFiles(pieces) as server:
        _, progress = run(f"hls+{server.url('index.m3u8')}", tmp_path / "out.mkv")
    assert progress.frames_in == progress.frames_out == FRAMES and progress.repairs.interruptions == 0
    assert packets(tmp_path / "out.mkv")[0] == FRAMES and packets(tmp_path / "out.mkv")[1] > 40
    assert not [text for text in progress.warnings if "reopened" in text or "variant_bitrate" in text]


def test_a_publisher_that_sends_nothing_more_is_opened_again_until_its_playlist_ends(pieces, tmp_path, monkeypatch):
    monkeypatch.setattr(PlaylistOpener, "reconnect", 2)
    monkeypatch.setattr(network, "SEGMENT_SECONDS", 3.0)
    with WebFiles(Publisher(pieces)) as server:
        _, progress = run(f"HLS+{server.url('index.m3u8')}", tmp_path / "out.mkv")
    assert progress.frames_out == packets(tmp_path / "out.mkv")[0] >= 2 * FRAMES
    assert progress.repairs.interruptions >= 1
    assert not [text for text in progress.warnings if "reopened" in text]


def test_a_playlist_names_no_file_of_this_machine(pieces, tmp_path):
    secret = tmp_path / "secret.ts"
    secret.write_bytes(next(data for name, data in pieces.items() if name.endswith(".ts")))
    named = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n".encode() + END
    with WebFiles({"index.m3u8": named}) as server, pytest.raises(SourceError, match="not a video that can be read"):
        open_live(f"hls+{server.url('index.m3u8')}")
