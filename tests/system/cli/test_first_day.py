"""The commands of a user's first day, with only the README: what each prints, and that none is a dead end.

The commands run in one process and one folder, one after the other, on clips of a few frames.
"""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import media
import pytest
from paths import CASES
from PIL import Image
from web_files import WebFiles

from upres.service.cli.app import build, execute

IMAGES = "photo.jpg photo.png shots/a.png shots/b.png pngs/01.png pngs/02.png pngs/03.png gaps/1.png gaps/3.png"
DEEP = {"ten.mp4": ("bt709", "bt709", "bt709"), "pq.mp4": ("bt2020nc", "bt2020", "smpte2084")}  # with their color tags
X265 = "log-level=none:cutree=0"  # cutree writes out of bounds on frames this small
LONG = "n" * 300
FILES = "in.mp4 b.mkv fhd.mp4 notes.txt clips/c.mp4 clips/d.mp4 'clips [new]/e.mp4'"

COMMANDS = [
    # What is this?
    ("", 0, "Usage: upres IN [OUT]"),
    ("--help", 0, "upres in.mp4 out.mp4 --scale 2", "probe", "serve", "Exit codes"),
    ("-h", 0, "Usage: upres IN [OUT]"),
    ("--version", 0, "upres 0."),
    ("-V", 0, "upres 0."),
    ("help", 0, "Usage: upres IN [OUT]"),
    ("help pull", 0, "Usage: upres pull"),
    ("version", 0, "upres 0."),
    ("run --help", 0, "--scale", "--model", "--dry-run", "--skip-existing"),
    ("serve --help", 0, "--host", "--port", "--grpc-port"),
    ("submit --help", 0, "--server", "--key", "--chain"),
    ("models", 0, "RealESRGAN_Vid_x4", "FlashVSR_Tiny", "deinterlace"),
    ("licenses", 0, "BSD 3-Clause"),
    ("cache ls", 0, "the cache is empty"),
    ("cache list", 0, "the cache is empty"),
    ("bench", 2, "Missing argument 'CLIP …'"),
    # What is this clip?
    ("probe in.mp4", 0, "h264 48x32 yuv420p", "below 540p: upscale four times", "--model RealESRGAN_Vid_x4"),
    ("probe fhd.mp4", 0, "1920x1080", "540p and above: upscale twice"),
    ("probe in.mp4 --json", 0, '"frames": 4'),
    ("probe photo.jpg", 0, "image JPEG 48x32", "RGB, 8 bits a channel", "(--scale 4)", "upres pull realesrgan-x4plus"),
    ("probe photo.png --json --content animation", 0, '"format": "PNG"', '"option": "--model realesrgan-x4plus-anime"'),
    ("probe notes.txt", 3, "notes.txt"),
    ("probe nowhere.mp4", 3, "nowhere.mp4: no such file"),
    # What would it do?
    ("in.mp4 --dry-run", 0, "32p: upscaled 4 times", "--scale 2", "in.mp4 -> in_x4.mp4: 192x128, 4 frames, about "),
    ("fhd.mp4 --dry-run", 0, "1080p: upscaled 2 times", "--scale 4", "fhd.mp4 -> fhd_x2.mp4: 3840x2160"),
    ("in.mp4 out.mov --codec prores --dry-run", 0, "in.mp4 -> out.mov"),
    ("in.mp4 out.mp4 --codec av1 --crf 35 --dry-run", 0, "in.mp4 -> out.mp4"),
    ("in.mp4 --chain x4,x2 --dry-run", 0, "in.mp4 -> in_x8.mp4: 384x256"),
    ("in.mp4 --height 100 --dry-run", 0, "in.mp4 -> in_100p.mp4: 150x100"),
    ("in.mp4 --start 0.1 --duration 0.2 --dry-run", 0, "2 frames"),
    ("in.mp4 --prefilter deinterlace-fields --dry-run", 0, "8 frames"),
    ("in.mp4 - --dry-run", 0, "in.mp4 -> stdout: 192x128"),
    ("in.mp4 --json --dry-run -s 2", 0, '"event": "predicted"', '"target": "in_x2.mp4"'),
    # Do it.
    ("in.mp4", 0, "in_x4.mp4: 4 frames in, 4 out"),
    ("in.mp4", 5, "in_x4.mp4: exists already; --overwrite replaces it"),
    ("in.mp4 --dry-run", 0, "a real run would be refused: in_x4.mp4: exists already; --overwrite replaces it"),
    ("in.mp4 --dry-run --overwrite", 0, "a real run would replace the existing target"),
    ("in.mp4 --overwrite -q", 0),
    ("in.mp4 two.mp4 -s 2 -v", 0, "two.mp4: 4 frames in, 4 out", "infer"),
    ("in.mp4 --scale 3", 0, "in_x3.mp4: 4 frames", "resampled to 3"),
    ("-i in.mp4 -o new/ -m x2", 0, "in.mp4 -> new/in.mp4: 96x64"),
    ("-i in.mp4 five.mkv -s 2 --codec h265 -y", 0, "five.mkv: 4 frames in"),
    ("in.mp4 web.webm -s 2", 0, "web.webm: 4 frames in, 4 out"),
    ("in.mp4 b.mkv several/ -s 2 --dry-run", 0, "2 of 2: b.mkv -> several/b.mkv", "2 checked, 0 failed, in "),
    ("in.mp4 b.mkv several/ -s 2", 0, "1 of 2: in.mp4 -> several/in.mp4", "2 of 2: b.mkv", "2 done, 0 failed, in "),
    ("clips/ several -s 2 --duration 0.1", 0, "several/c.mp4", "several/d.mp4", "2 done"),
    ("'clips/*.mp4' several/ -s 2 --skip-existing", 0, "several/c.mp4: exists, skipped", "0 done, 2 skipped"),
    ("clips/ several -s 2 --resume", 0, "several/c.mp4: exists, skipped", "0 done, 2 skipped, 0 failed"),
    ("'clips [new]/*.mp4' several/ -s 2 --duration 0.1", 0, "several/e.mp4: 1 frame in"),
    ("clips/ films/ -s 2 --container mkv", 0, "films/c.mkv: 4 frames in", "films/d.mkv: 4 frames in"),
    ("in.mp4 -s 2 --container mov --codec av1", 2, ".mov does not support av1; choose --container mp4 or mkv or webm"),
    ("b.mkv -s 2 --dry-run", 0, "b.mkv -> b_x2.mkv"),
    ("b.mkv -s 2 --codec prores --dry-run", 0, "b.mkv -> b_x2.mov"),
    ("in.mp4 --still 0.1 -s 2", 0, "in_0.1s_x2.png: 96x64"),
    ("in.mp4 --still 0.05 -s 2", 0, "in_0.05s_x2.png: 96x64"),
    ("in.mp4 --still 0:00.10 -s 2", 5, "in_0.1s_x2.png: exists already; --overwrite replaces it"),
    ("in.mp4 --still 0.1 frame.png", 0, "in.mp4 -> frame.png: 192x128, 1 frame", "frame.png: 192x128"),
    ("in.mp4 --still 0.1 --compare both.jpg", 0, "both.jpg: 384x128, before on the left, after on the right"),
    ("in.mp4 six.mp4 -s 2 --resume --duration 0.1", 0, "six.mp4: 1 frame in"),
    # Images.
    ("pngs/ all.mp4", 2, "3 inputs need a folder as the target", "name their pattern: upres 'pngs/%02d.png' all.mp4"),
    ("photo.jpg", 0, "photo.jpg -> photo_x4.jpg: 192x128, 1 frame, about ", "photo_x4.jpg: 192x128"),
    (
        "photo.jpg other.png -s 2 --prefilter denoise --crf 20 --start 5",
        0,
        "note: a still image does not use --crf, --start, --prefilter",
    ),
    ("photo.jpg video.mp4 -s 2", 0, "photo.jpg is an image, and the result is a video", "upres photo.jpg photo_x4.jpg"),
    ("icon.ico -s 2", 0, "icon.ico is an image, and the result is a video; to get an image: upres icon.ico --still 0"),
    ("picture -s 2", 0, "picture_x2.jpg: 96x64"),
    ("picture picture.webp -s 2", 0, "picture.webp: 96x64"),
    ("renamed.mp4 -s 2", 0, "renamed_x2.png: 96x64"),
    ("photo.jpg --dry-run -s 4", 0, "a real run would be refused: photo_x4.jpg: exists already; --overwrite"),
    ("photo.jpg", 5, "photo_x4.jpg: exists already; --overwrite replaces it"),
    ("photo.jpg large.png", 0, "photo.jpg -> large.png: 192x128"),
    ("photo.jpg large.webp -s 2 --json", 0, '"target": "large.webp", "width": 96, "height": 64'),
    ("photo.png large.tif --height 100 --dry-run", 0, "photo.png -> large.tif: 150x100"),
    ("photo.png --compare compare.png", 0, "compare.png: 384x128, before on the left, after on the right"),
    ("photo.png --compare -s 2 -q", 0),
    ("shots/ larger/", 0, "1 of 2: shots/a.png -> larger/a.png: 192x128", "2 of 2: ", "2 done, 0 failed, in "),
    ("shots/ larger/ --skip-existing", 0, "larger/a.png: exists, skipped", "0 done, 2 skipped"),
    ("photo.jpg in.mp4 both/ -s 2", 0, "photo.jpg -> both/photo.jpg", "in.mp4 -> both/in.mp4", "2 done"),
    (
        "pngs/%02d.png sequence.mp4 --rate 24",
        0,
        "pngs/%02d.png -> sequence.mp4: 192x128, 3 frames",
        "3 frames in, 3 out",
    ),
    ("pngs/%02d.png --still 0.05 second.png", 0, "second.png: 192x128"),
    ("gaps/%d.png gaps.mp4", 3, "2.png is missing", "number them without gaps"),
    (
        "pngs/%04d.png gaps.mp4",
        3,
        "such as 0001.png; found pngs/%02d.png",
    ),
    (
        "in.mp4 frame_%05d.png -s 2",
        0,
        "in.mp4 -> frame_%05d.png: 96x64, 4 frames",
        "frame_%05d.png: 4 frames in, 4 out",
    ),
    (
        "in.mp4 frame_%05d.png -s 2",
        5,
        "4 images of that name exist already, as frame_00001.png; --overwrite",
        "--resume",
    ),
    (
        "in.mp4 frame_%05d.png -s 2 --resume",
        5,
        "4 images",
        "no interrupted run left them, so there is nothing to resume",
    ),
    ("in.mp4 frame_%05d.png -s 2 --skip-existing", 0, "frame_%05d.png: exists, skipped"),
    ("in.mp4 a/folder/%03d.png -s 2", 0, "a/folder/%03d.png: 4 frames in, 4 out"),
    ("frame_%05d.png again.mp4 --rate 24 -s 2", 0, "again.mp4: 4 frames in, 4 out"),
    ("pngs/%02d.png larger/ -s 2", 0, "pngs/%02d.png -> larger/%02d.png: 96x64, 3 frames"),
    ("pngs/%02d.png -s 2", 0, "pngs/%02d_x2.png: 3 frames in, 3 out"),
    ("in.mp4 out.gif", 0, "in.mp4 -> out.gif: 192x128", "out.gif: 4 frames in, 4 out"),
    ("in.mp4 out.gif", 5, "out.gif: exists already; --overwrite replaces it"),
    ("out.gif -s 2", 0, "out_x2.gif: 4 frames in, 4 out"),
    ("out.gif video.mp4 -s 2 --dry-run", 0, "out.gif -> video.mp4: 384x256"),
    ("photo.png still.gif -s 2", 0, "still.gif: 96x64"),
    ("in.mp4 out.webp --lossless -s 2", 0, "out.webp: 4 frames in, 4 out"),
    ("out.webp -s 2", 0, "out.webp -> out_x2.webp: 192x128", "out_x2.webp: 2 frames in"),
    ("in.mp4 out.apng -s 2", 0, "out.apng: 4 frames in, 4 out"),
    ("in.mp4 small.gif --codec av1 --crf 20", 0, "note: images do not use --codec, --crf", "small.gif: 4 frames in"),
    ("in.mp4 --still 0 still.png --duration 3", 0, "a frame as an image does not use --duration"),
    ("in.mp4 file.mp4 --container mov", 0, "a file whose name has a suffix does not use --container"),
    (
        "in.mp4 file.webm --codec h264",
        2,
        ".webm does not support h264; name the output file.mp4 or file.mov or file.mkv",
    ),
    ("in.mp4 file.mkv --lossless --codec av1", 2, "--lossless sets the codec and its quality"),
    ("in.mp4 small.gif --lossless", 2, "--lossless: gif always loses some of an image"),
    ("in.mp4 out.mp4 --rate 24", 2, "--rate is for numbered images, such as frame_%05d.png"),
    ("pngs/%02d.png out.mp4 --rate fast", 2, "such as 24 or 30000/1001, got 'fast'"),
    ("nowhere.png", 3, "nowhere.png: no such file"),
    ("shots/", 2, "name a folder for the results: upres 'shots/' upscaled/"),
    ("in.mp4 look.png --compare", 5, "is a still image, and in.mp4 is not; to upscale a single frame, add --still 0"),
    ("in.mp4 --compare", 2, "upres in.mp4 --still 5 --compare compare.png"),
    ("photo.png small.jpg --lossless", 2, "JPEG always loses some of an image; name it small.png"),
    # 10 bits and high dynamic range.
    ("probe deep/ten.mp4", 0, "bits 10; the result has 10, as HEVC", "hdr no"),
    ("probe deep/pq.mp4", 0, "bt2020nc tv smpte2084", "hdr yes; it is kept, or converted to SDR with --tonemap"),
    ("probe in.mp4", 0, "bits 8; the result has 8"),
    ("deep/ten.mp4 -s 2", 0, "10 bits a channel are encoded as HEVC", "ten_x2.mp4: 4 frames in, 4 out"),
    ("deep/ten.mp4 deep/av1.mp4 -s 2 --codec av1", 0, "deep/av1.mp4: 4 frames in, 4 out"),
    ("deep/ten.mp4 deep/lossless.mkv -s 2 --lossless", 0, "deep/lossless.mkv: 4 frames in, 4 out"),
    ("deep/ten.mp4 deep/8.mp4 -s 2 --codec h264 --pix-fmt yuv420p", 0, "10 bits a channel become 8, dithered: yuv420p"),
    ("deep/pq.mp4 -s 2", 0, "pq_x2.mp4: 4 frames in, 4 out"),
    ("deep/pq.mp4 deep/sdr.mp4 -s 2 --tonemap", 0, "tone mapping gives 8", "deep/sdr.mp4: 4 frames in, 4 out"),
    ("deep/pq.mp4 deep/pq.png --still 0 -s 2", 3, "a still image has 8; --tonemap brings it down to SDR"),
    ("deep/pq.mp4 deep/pq.mkv -s 2 --codec vp9", 3, "vp9 holds 8; --tonemap brings it down to SDR"),
    ("deep/dolby.mp4 -s 2", 3, "Dolby Vision profile 5", "ffmpeg -i IN -vf libplacebo="),
    # Errors name what works instead.
    ("nowhere.mp4", 3, "nowhere.mp4: no such file"),
    ("notes.txt", 3, "notes.txt"),
    ("clips/", 2, "name a folder for the results: upres 'clips/' upscaled/"),
    ("in.mp4 b.mkv fhd.mp4 out.mp4", 2, "3 inputs need a folder as the target", "upres a.mp4 b.mp4 upscaled/"),
    ("in.mp4 in.mp4 --overwrite", 5, "is the input itself"),
    ("''", 2, "a name is empty; an unset shell variable may be the cause"),
    ("in.mp4 '' --dry-run", 2, "a name is empty"),
    ("in.mp4 nofolder/out.mp4", 5, "there is no folder nofolder"),
    (
        "in.mp4 s3://bucket/out.mp4",
        5,
        "s3://bucket/out.mp4: a URL cannot be the target; name a file, a folder or - last",
    ),
    ("in.mp4 rtmp://me:secret@host/key", 5, "rtmp://host/key: a URL cannot", "upres live in.mp4 --to rtmp://host/key"),
    ("in.mp4 out.avi", 5, "the name must end in .mp4", "images: .png, .jpg", "animations: .gif", "frame_%05d.png"),
    ("in.mp4 b.mkv", 5, "b.mkv: exists already", "to upscale both: upres in.mp4 b.mkv upscaled/"),
    ("in.mp4 clips/c.mp4 --overwrite --dry-run", 0, "in.mp4 -> clips/c.mp4"),
    ("in.mp4 look.png", 5, "--still 0"),
    ("in.mp4 out.mp4 --model RealESRGAN", 4, "unknown model", "x4, x2, flashvsr"),
    ("in.mp4 out.mp4 --model RealESRGAN_x4plus", 4, "upres pull realesrgan-x4plus"),
    ("in.mp4 out.mp4 --model flashvsr", 4, "upres export FlashVSR_Tiny"),
    ("in.mp4 out.mp4 --scale 8", 2, "--chain x4,x2 gives 8 times"),
    ("in.mp4 out.mp4 --scale 2.5", 2, "--scale must be 2, 3 or 4, got 2.5", "--height 1080"),
    ("in.mp4 --scale x2 --dry-run", 0, "in.mp4 -> in_x2.mp4"),
    (
        "in.mp4 --chain x2,x3",
        4,
        "--chain must list models separated by commas, such as x4,x2: unknown model 'x3'",
        "--height",
    ),
    ("in.mp4 out.mp4 --scale 2 --model x4", 2, "upscales 4 times, not 2 times"),
    ("in.mp4 out.mp4 --scael 2", 2, "No such option: --scael", "upres run --help"),
    ("in.mp4 out.mp4 --crf 99", 2, "crf must lie in 0..51"),
    ("in.mp4 out.mp4 --crf", 2, "'--crf' requires an argument", "for its options: upres run --help"),
    ("probe in.mp4 --content", 2, "'--content' requires an argument", "for its options: upres probe --help"),
    ("in.mp4 out.mp4 --height 4000", 2, "--height 4000 exceeds the upscaled height"),
    ("in.mp4 out.mp4 --prefilter shine", 2, "unknown pre-filter: shine; there are: deinterlace"),
    ("in.mp4 out.mp4 --codec mpeg2", 2, "--codec must be auto, h264, hevc, av1"),
    ("in.mp4 out.mp4 --codec h264 --encoder-option bf=3", 2, "frames must not be reordered in the log"),
    ("https://www.youtube.com/watch?v=x out.mp4", 3, "a page of YouTube", "yt-dlp -o"),
    ("http://127.0.0.1:9/in.mp4 out.mp4", 3, "cannot be reached", "try again later"),
    # As called by other programs.
    ("-i in.mp4 -c:v libx265 -crf 20 out.mp4", 2, "here, -c:v is --codec", "here, -crf is --crf"),
    ("in.mp4 -ss 1 out.mp4", 2, "here, -ss is --start"),
    ("in.mp4 -n realesrgan-x4plus", 2, "here, -n is --model"),
    ("-i in.mp4 -o out.mp4 -p realesrgan -e crf=17", 2, "here, -p is --model", "here, -e is --encoder-option"),
    ("-i in.mp4 -o out.mp4 -x", 2, "here, -x is not supported"),
    (
        "-i in.mp4 --suffix out --face_enhance",
        2,
        "here, --suffix is the name of OUT",
        "here, --face_enhance is not supported",
    ),
    ("in.mp4 out.mp4 --encoder-option tune=film", 2, "--codec must be named"),
    ("in.mp4 --width=1920", 2, "here, --width is --height"),
    ("in.mp4 --gpu 0", 2, "here, --gpu is --runtime"),
    ("in.mp4 out.mov --codec prores_ks --height=100p --dry-run", 0, "in.mp4 -> out.mov: 150x100"),
    ("in.mp4 out.mp4 --height tall", 2, "--height must be a number of pixels, such as 1080, got 'tall'"),
    ("in.mp4 out.mp4 --height 0", 2, "--height must lie in 16..16384"),
    ("in.mp4 out.mp4 --segment 0", 2, "--segment must lie in 0.1..60"),
    ("in.mp4 out.mp4 --duration 0", 2, "--duration must be longer than 0 s"),
    ("info in.mp4", 2, "here, that is `upres probe`"),
    ("upscale in.mp4", 2, "here, that is `upres IN [OUT]`"),
    ("in.mp4 '12:30 call.mp4' -s 2", 0, "12:30 call.mp4: 4 frames in"),
    ("'12:30 call.mp4' -s 2", 0, "12:30 call_x2.mp4: 4 frames in"),
    ("in.mp4 12:30.gif -s 2", 0, "12:30.gif: 4 frames in"),
    ("in.mp4 '12:30 %d.png' -s 2", 0, "12:30 %d.png: 4 frames in"),
    ("'12:30 %d.png' 12:30.webm -s 2", 0, "12:30.webm: 4 frames in"),
    ("-dash.mp4", 2, "for the file of that name, write ./-dash.mp4"),
    ("./-dash.mp4 -s 2", 0, "-dash_x2.mp4: 4 frames in"),
    (f"in.mp4 {LONG}.mp4", 5, "cannot be used (File name too long)"),
    (f"in.mp4 {LONG}/", 5, "cannot be used (File name too long)"),
    (f"{LONG}/in.mp4 several/", 3, "cannot be used (File name too long)"),
    ("file:///nowhere/my%20clip.mp4 out.mp4", 3, "/nowhere/my clip.mp4: no such file"),
    ("file://[x out.mp4", 3, "file://[x: is not a valid URL"),
    ("https://user:word@[::1/in.mp4 out.mp4", 3, "https://[::1/in.mp4: is not a valid URL"),
    ("https://host:none/in.mp4 out.mp4", 3, "https://host:none/in.mp4: is not a valid URL"),
    ("rtsp://user:wo[rd@host out.mp4", 3, "rtsp://host: is not a valid URL"),
    ("in.mp4 https://[x/out.mp4", 3, "https://[x/out.mp4: is not a valid URL"),
    ("in.mp4 newfolder", 5, "the name must end in .mp4", "for a folder: upres in.mp4 newfolder/"),
    ("empty.png", 3, "empty.png: the file is empty"),
    ("- out.mp4", 3, "standard input: is empty"),
    ("probe -", 3, "standard input: is empty"),
    ("strem in.mp4 out.mp4", 2, "Did you mean 'stream'?"),
    ("pull nothing", 4, "nothing is unknown; `upres pull` can download: realesrgan-x4plus"),
    ("pull x4", 4, "x4 comes with the package"),
    ("export x4plus", 4, "`upres pull realesrgan-x4plus` gets it"),
    ("export flashvsr", 2, "--weights"),
    # Your own server.
    ("serve --port 99999", 2, "Invalid value for '--port'", "65535"),
    ("keys list", 0, "upres keys add NAME"),
    ("keys add me", 0, "upres_"),
    ("keys list", 0, "me"),
    ("serve --list-settings", 0, "| `limits` | `none` |"),
    ("jobs", 2, "an API key is needed: --key, or UPRES_KEY"),
    ("jobs --key k --server localhost", 2, "HOST:PORT"),
    ("submit nowhere.mp4 --key k", 3, "nowhere.mp4"),
    (
        "submit photo.jpg --key k",
        3,
        "photo.jpg: is an image, and a server accepts videos only",
        "upscale it here with: upres photo.jpg",
    ),
    ("stream in.mp4 out.mp4 --key k --scale 2.5", 2, "--scale must be 2, 3 or 4, got 2.5", "--height 1080"),
    ("stream in.mp4 out.avi --key k", 5, "the name must end in .mp4"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first day")
    for name in shlex.split(f"{IMAGES} {FILES}"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        size = "1920x1080" if path.stem == "fhd" else "48x32"
        if path.suffix == ".txt":
            path.write_text("what to buy\n" * 20)
        elif path.suffix in (".png", ".jpg"):
            media.clip(path, "-frames:v", 1, picture="testsrc2=size=48x32")
        else:
            media.clip(
                path, "-c:v", "libx264", "-pix_fmt", "yuv420p", picture=f"testsrc2=size={size}:rate=10:duration=0.4"
            )
    shutil.copy(folder / "photo.jpg", folder / "picture")
    shutil.copy(folder / "in.mp4", folder / "-dash.mp4")
    Image.new("RGB", (48, 32)).save(folder / "icon.ico")
    (folder / "empty.png").touch()
    shutil.copy(folder / "photo.png", folder / "renamed.mp4")
    (folder / "deep").mkdir(exist_ok=True)
    for name, colors in DEEP.items():
        how = ("-c:v", "libx265", "-x265-params", X265, "-pix_fmt", "yuv420p10le", *media.tagged(*colors))
        media.clip(folder / "deep" / name, *how, picture="testsrc2=size=48x32:rate=10:duration=0.4")
    shutil.copy(CASES / "dv5.mp4", folder / "deep" / "dolby.mp4")
    return folder


@pytest.fixture
def typed(folder, monkeypatch, capfd):
    """Run a command line; return exit code, stdout and stderr."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("UPRES_STATE", str(folder / "state"))
    monkeypatch.setenv("UPRES_CACHE", str(folder / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("UPRES_KEY", "UPRES_SERVER"):
        monkeypatch.delenv(name, raising=False)

    def run(line):
        monkeypatch.setattr(sys, "argv", ["upres", *shlex.split(line)])
        with Path(os.devnull).open() as nothing, pytest.raises(SystemExit) as ended:
            monkeypatch.setattr(sys, "stdin", nothing)
            execute(build(), sys.argv[1:])
        printed = capfd.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


def test_sixty_commands_are_typed():
    assert len(COMMANDS) >= 60


@pytest.mark.parametrize(("line", "code", "words"), [(line, code, words) for line, code, *words in COMMANDS])
def test_it_says_what_it_did_or_what_to_do(typed, folder, line, code, words):
    exit_code, out, err = typed(line)
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", out + err).split())
    assert exit_code == code, text
    assert [word for word in words if " ".join(word.split()) not in text] == [], text
    assert "Traceback" not in text and "Some options were not used" not in text
    assert code == 0 or "\nupres: " in f"\n{err}"
    assert "-q" not in shlex.split(line) or not text
    assert not list(folder.rglob("*.upres")) and not list(folder.rglob("*.part"))


@pytest.mark.parametrize("words", ["probe {}", "{} out.mp4 --scale 2", "{}"])
def test_what_comes_in_order_only_is_to_be_fetched_before_the_command_that_was_typed(typed, words):
    with WebFiles({"a clip.mp4": b"x"}) as server:
        server.ranges = False
        address = server.url("a%20clip.mp4")
        code, out, err = typed(words.format(address))
    assert code == 3 and not out
    assert err.splitlines() == [
        f"upres: {address}: its server does not support range requests, so fetch it first: curl -Lo a%20clip.mp4 {address}",
        f"  then: upres {words.format('a%20clip.mp4')}",
    ]


def test_a_result_that_is_finished_is_not_taken_for_a_second_input(typed):
    assert "upscale both" in typed("in.mp4 b.mkv")[2]
    code, _, err = typed("in.mp4 b.mkv --resume")
    assert code == 5 and "there is nothing to resume" in err and "upscale both" not in err
