"""Requests to the HTTP API."""

from serving import KEY

HEADERS = {"Authorization": f"Bearer {KEY}"}


def submit(web, path, headers=None, **fields):
    data = {"model": "RealESRGAN_Vid_x2", "segment_seconds": "0.5", "preset": "ultrafast", **fields}
    with path.open("rb") as file:
        files = {"video": ("video.bin", file, "application/octet-stream")}
        return web.post("/api/v2/videos/upscales", files=files, data=data, headers=headers or {})
