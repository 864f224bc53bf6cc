"""NVDEC without a GPU: PyAV gets an accelerator that supports no codec, and the CPU's frames get NVDEC's pixel formats."""

from av.video.reformatter import ColorRange

from upres.engine.decode import connection, decoder
from upres.engine.machine import video_engines

FORMATS = {native: downloaded for downloaded, native in decoder.FROM_NVDEC.items()} | {"yuvj420p": "nv12"}


class FakeNvdec:
    """`frames` counts the frames in formats of NVDEC. supports: whether it decodes anything."""

    def __init__(self, monkeypatch, *, supports=True):
        self.frames = 0
        monkeypatch.setattr(video_engines, "_nvdec_problem", lambda: None)
        real = video_engines.HWAccel

        def accelerator(device, **settings):
            assert device == "cuda"
            return real("drm", **settings)

        monkeypatch.setattr(video_engines, "HWAccel", accelerator)
        if supports:
            self._accelerated = []  # containers
            self._patch(monkeypatch, connection.open_container, decoder.Decoder.__init__)

    def _patch(self, monkeypatch, open_container, start):
        def opened(*args, hwaccel, **settings):
            container = open_container(*args, hwaccel=hwaccel, **settings)
            self._accelerated += [container] if hwaccel is not None else []
            return container

        def begin(each, video, *args, **settings):
            start(each, video, *args, **settings)
            if video.container in self._accelerated:
                each._context = _Context(each._context, self)

        monkeypatch.setattr(connection, "open_container", opened)
        monkeypatch.setattr(decoder.Decoder, "__init__", begin)


class _Context:
    is_hwaccel = True

    def __init__(self, context, fake):
        self._context, self._fake = context, fake

    def __getattr__(self, name):
        return getattr(self._context, name)

    def decode(self, packet):
        for frame in self._context.decode(packet):
            name = FORMATS.get(frame.format.name)
            self._fake.frames += name is not None
            full = frame.color_range == ColorRange.JPEG
            scope = {"src_color_range": frame.color_range, "dst_color_range": frame.color_range} if full else {}
            yield frame if name is None else frame.reformat(format=name, **scope)
