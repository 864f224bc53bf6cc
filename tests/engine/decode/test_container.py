"""Opening of containers whose bytes come from Python."""

import io

import media
import pytest

from upres.engine.core.errors import Interrupted
from upres.engine.decode.container import open_container


class Pressed:
    """A source during whose reading Ctrl-C is pressed, after this number of reads."""

    def __init__(self, data, reads):
        self._file, self._reads = io.BytesIO(data), reads

    def read(self, size):
        if not self._reads:
            raise KeyboardInterrupt
        self._reads -= 1
        return self._file.read(size)


class PressedFile(Pressed):
    """The same for a source that can be positioned."""

    def seek(self, offset, whence=0):
        return self._file.seek(offset, whence)

    def tell(self):
        return self._file.tell()


@pytest.mark.parametrize("kind", [Pressed, PressedFile])
def test_ctrl_c_while_bytes_are_awaited_is_passed_on_and_prints_nothing(tmp_path, capfd, kind):
    data = media.clip(tmp_path / "in.ts", "-c:v", "mpeg2video", "-f", "mpegts").read_bytes()
    for reads in range(len(data) // 4096):  # while the format and the tracks are found, and during demuxing
        with pytest.raises(Interrupted), open_container("in", kind(data, reads), None, live=True) as container:
            list(container.demux())
    assert capfd.readouterr() == ("", "")
