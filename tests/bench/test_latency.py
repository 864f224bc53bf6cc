"""The latency measurement: numbers in pictures that survive encoding, and correct figures for known times."""

import importlib
import io
import json
import subprocess
import sys
import threading
import time
from fractions import Fraction

import av
import pytest
import rtsp
from fake import repeated
from paths import ROOT, SAMPLE

BENCH = ROOT / "bench" / "latency.py"
RATE = Fraction(25)


@pytest.fixture
def parts(monkeypatch):
    """Return a function that imports modules of the benchmark."""
    monkeypatch.syspath_prepend(BENCH.parent)
    return importlib.import_module


def pieces(parts, numbers, width=128, height=72):
    frames, _ = parts("live").scaled(SAMPLE, width, height)
    stamped = (parts("stamps").stamped(frames[number % len(frames)], number) for number in numbers)
    return parts("live").in_pieces(stamped, RATE, "mp4")


def test_every_number_is_read_after_upscaling_and_rough_encoding(parts):
    numbers, file = range(0, 4096, 13), io.BytesIO()
    with av.open(io.BytesIO(b"".join(pieces(parts, numbers)))) as source, av.open(file, "w", format="mp4") as target:
        stream = target.add_stream("libx264", rate=25, options={"crf": "35", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 256, 144, "yuv420p"
        for frame in source.decode(video=0):
            pixels = repeated(frame.to_ndarray(format="rgb24"), 2)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        target.mux(stream.encode(None))
    with av.open(io.BytesIO(file.getvalue())) as upscaled:
        assert [parts("stamps").read(frame) for frame in upscaled.decode(video=0)] == list(numbers)


def test_a_picture_without_a_number_has_none(parts):
    frames, _ = parts("live").scaled(SAMPLE, 128, 72)
    plain = [av.VideoFrame(128, 72, "gray") for _ in range(2)]
    for frame, value in zip(plain, (0, 255), strict=True):
        frame.planes[0].update(bytes([value]) * frame.planes[0].buffer_size)
    assert [parts("stamps").read(frame) for frame in (frames[0], *plain)] == [None] * 3


def test_the_figures_are_those_of_the_times(parts):
    latency, live = parts("latency"), parts("live")
    sent = pieces(parts, range(105))  # the last five do not count
    paced = live.Paced(sent, RATE)
    paced._start, paced.sent = 1000.0, [1000.0 + number / 25 for number in range(105)]
    missing = {number for number in range(60, 90) if number % 3}
    arriving = [number for number in range(100) if number not in missing]
    recording = latency.Recording()
    for piece, number in zip(pieces(parts, arriving), arriving, strict=True):
        recording.add(piece)
        recording.times[-1] = 1000.0 + number / 25 + (0.5 if number == 99 else 0.1)
    figures = latency.figures(recording, paced, RATE, 0.02)
    assert (figures["sent"], figures["came"], figures["unreadable"]) == (105, 80, 0)
    assert (figures["oldest_intervals"], figures["most_intervals"], figures["older"]) == (12, 3, 1)
    assert figures["sound_ms"] is None
    problem = latency.row("a door", "128x72", {"problem": "it is slow"})
    assert len(problem) == len(latency.COLUMNS) and problem[-1] == "it is slow"
    assert latency.row("a door", "128x72", figures)[7:] == ("12.0", "3", "no, 1 of 27", "none", "")
    assert figures["to_first_s"] == 0.1 and figures["counted"] == 100 - 53 and figures["dropped"] == 20
    assert figures["late_ms"]["p50"] == pytest.approx(100) and figures["late_ms"]["p99"] > 350
    assert figures["added_intervals"]["p50"] == pytest.approx(2)
    assert figures["fps"] == pytest.approx(26 / (46 / 25 + 0.4), abs=0.01)


def test_the_limit_of_a_door_includes_what_its_protocols_hold_back(parts):
    doors = parts("doors").DOORS
    assert {name: round(door.most_intervals(25.0)) for name, door in doors.items()} == {
        "upres live": 3,
        "gRPC": 3,
        "WebSocket": 3,
        "WebSocket, Matroska": 3,
        "LL-HLS": 15,
        "RTSP to SRT": 3 + 3 + 1,
    }


@pytest.mark.parametrize(("start", "apart"), [(None, 0.0), (0.0, 0.0), (0.05, 50.0), (-0.03, 30.0)])
def test_sound_is_as_far_from_its_picture_as_it_is_moved(parts, start, apart):
    in_step, live = parts("in_step"), parts("live")
    frames, _ = live.scaled(SAMPLE, 64, 48)
    sent = live.in_pieces(frames[:50], RATE, "mp4", sound=True)
    assert len(sent) == 50 and b"moof" in sent[0] and b"moof" in sent[-1]
    data = b"".join(sent)
    shown = [(seconds, seconds) for seconds in in_step.picture_times(data)]
    assert in_step.milliseconds_apart(data, data, shown, start=start) == apart
    assert (
        in_step.milliseconds_apart(data, b"".join(live.in_pieces(frames[:5], RATE, "mp4")), shown, start=None) is None
    )


@pytest.mark.referee
def test_every_frame_of_the_camera_arrives_whole(parts):
    """Frames of several slices, as x264 writes them with several threads for all but small pictures."""
    rtsp.needed()
    frames, _ = parts("live").scaled(SAMPLE, 960, 540)
    stamped = [parts("stamps").stamped(frame, number) for number, frame in enumerate(frames[:60])]
    pieces, camera = parts("live").in_pieces(stamped, RATE, "h264"), rtsp.RtspCamera(parts("doors").LAUNCH)
    camera.on()

    def send():
        assert camera.process.stdout.readline() == b"watched\n"
        for piece in pieces:
            camera.process.stdin.write(len(piece).to_bytes(4, "big") + piece)
            camera.process.stdin.flush()
            time.sleep(0.01)  # at a live rate, or GStreamer drops frames

    sending, numbers = threading.Thread(target=send), []
    sending.start()
    try:
        with av.open(camera.address, options={"rtsp_transport": "tcp"}) as source:
            for frame in source.decode(video=0):
                numbers.append(parts("stamps").read(frame))
                if len(numbers) == 40:
                    break
    finally:
        sending.join()
        camera.off()
    assert None not in numbers and numbers == sorted(set(numbers))


def test_the_doors_that_need_no_other_program_are_measured_and_every_number_comes_back(tmp_path):
    out, doors = tmp_path / "results.json", ["upres live", "gRPC", "WebSocket", "LL-HLS"]
    command = [sys.executable, BENCH, SAMPLE, out, "--sizes", "96x48", "--seconds", "4", "--doors", *doors]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text())
    assert document["machine"]["cpus"] and list(document["results"]) == [f"{door}, 96x48" for door in doors]
    for result in document["results"].values():
        assert result["sent"] == 100 and 0 < result["came"] <= 100 and result["unreadable"] == 0, result
        assert result["inference_ms"] > 0 and result["load"] >= 0 and abs(result["sound_ms"]) < 1, result
    header, *rows = done.stdout.splitlines()[len(doors) :]
    assert header.startswith("door") and [row.partition("  ")[0] for row in rows] == doors


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_each_piece_of_a_source_has_one_frame(parts, container):
    live = parts("live")
    frames, _ = live.scaled(SAMPLE, 64, 48)
    pieces = live.in_pieces(frames[:20], RATE, container)
    assert len(pieces) == 20
    for count in (1, 7, 20):
        with av.open(io.BytesIO(b"".join(pieces[:count])), "r") as source:
            assert sum(1 for packet in source.demux() if packet.size) == count
