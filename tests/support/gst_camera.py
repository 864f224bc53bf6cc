"""An RTSP camera on GStreamer's RTSP server: /usr/bin/python3 gst_camera.py PORT LAUNCH [COUNT].

LAUNCH is the pipeline served at /camera, with payloaders `pay0`, `pay1`. If it has an `appsrc name=in`, H.264 access units are read
from stdin, each preceded by its length in four bytes; those that arrive while no client watches are lost. It prints `ready`,
then `watched` whenever a client starts to watch, and ends at the end of stdin. It needs the system's Python, because `gi` cannot be
installed from PyPI without a compiler.
"""

import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402 - only once their versions are chosen


class Camera:
    """Forward stdin to the pipeline that a client is watching, if there is one."""

    def __init__(self, loop):
        self.loop = loop
        self.entry = None

    def configure(self, _, media):
        self.entry = media.get_element().get_by_name("in")
        say("watched")

    def read(self):
        while len(size := sys.stdin.buffer.read(4)) == 4:
            data = sys.stdin.buffer.read(int.from_bytes(size, "big"))
            if self.entry is not None:
                self.entry.emit("push-buffer", Gst.Buffer.new_wrapped(data))
        self.loop.quit()


def main():
    port, launch = sys.argv[1:]
    Gst.init(None)
    loop = GLib.MainLoop()
    camera, server, factory = Camera(loop), GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory.set_launch(f"( {launch} )")
    factory.set_shared(True)
    factory.connect("media-configure", camera.configure)
    server.get_mount_points().add_factory("/camera", factory)
    server.attach(None)
    threading.Thread(target=camera.read, daemon=True).start()
    say("ready")
    loop.run()


def say(word):
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


main()
