"""An independent RTSP camera: GStreamer's server, run by the system's Python."""

import os
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from paths import SUPPORT

PYTHON = Path("/usr/bin/python3")  # the only Python that the system's `gi` works with
CHECK = """
import gi
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
assert all(map(Gst.ElementFactory.find, ("x264enc", "opusenc", "rtph264pay", "rtpopuspay", "h264parse")))
"""
PICTURE = "videotestsrc is-live=true ! video/x-raw,width=64,height=48,framerate=10/1"
MOVING = f"{PICTURE} ! x264enc tune=zerolatency key-int-max=5 ! rtph264pay name=pay0 pt=96"
SOUND = "audiotestsrc is-live=true ! audioconvert ! opusenc ! rtpopuspay name=pay1 pt=97"


def needed():
    """Skip the test if the server is not installed, except in CI."""
    if not PYTHON.exists() or subprocess.run([PYTHON, "-c", CHECK], capture_output=True, check=False).returncode:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse(
            "needs GStreamer's RTSP server: gir1.2-gst-rtsp-server-1.0, python3-gi and GStreamer's plugins of a Debian system"
        )


class RtspCamera:
    """A camera that can be switched off and on. process: the server's process while it is on."""

    def __init__(self, launch=f"{MOVING} {SOUND}"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._launch = launch
        self.process = None
        self.address = f"rtsp://127.0.0.1:{self._port}/camera"

    def on(self):
        command = [PYTHON, SUPPORT / "gst_camera.py", str(self._port), self._launch]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"

    def off(self):
        self.process.kill()
        self.process.communicate()


@contextmanager
def rtsp_camera():
    camera = RtspCamera()
    camera.on()
    try:
        yield camera
    finally:
        camera.off()
