"""NVENC without a GPU: x264 and x265 behind the same calls. The options passed to NVENC are recorded."""

from types import SimpleNamespace

import av

from upres.engine.encode import encoder

INSTEAD = {"h264_nvenc": "libx264", "hevc_nvenc": "libx265"}
SHARED = ("bf", "flags", "forced-idr", "chroma_sample_location")


class FakeNvenc:
    """`opened` records the options of each encoder that was opened, in order."""

    def __init__(self, monkeypatch):
        self.opened = []
        real = SimpleNamespace(**{name: getattr(av, name) for name in ("codec", "FFmpegError")})
        real.open = lambda *args, **kwargs: _Container(av.open(*args, **kwargs), self.opened)
        monkeypatch.setattr(encoder, "av", real)


class _Container:
    def __init__(self, container, opened):
        self._container, self._opened = container, opened

    def add_stream(self, library, *, rate, options):
        if library not in INSTEAD:
            return self._container.add_stream(library, rate=rate, options=options)
        self._opened.append((library, options))
        crf, fast = {"crf": options["cq"]}, {"preset": "ultrafast", "threads": "1"}
        quiet = {"x265-params": "log-level=none:keyint=-1:scenecut=0:bframes=0"} if library == "hevc_nvenc" else {}
        quiet |= {"tune": "zerolatency"} if options.get("delay") == "0" else {}
        shared = {name: value for name, value in options.items() if name in SHARED}
        return self._container.add_stream(INSTEAD[library], rate=rate, options={**shared, **crf, **fast, **quiet})

    def start_encoding(self):
        self._container.start_encoding()

    def close(self):
        self._container.close()
