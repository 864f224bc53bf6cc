"""Clips with embedded closed captions, and the captions that a decoder shows."""

import re

import media

ROLL_UP, CARRIAGE_RETURN, ROW_15, ERASE = 0x1425, 0x142D, 0x1470, 0x142C  # CEA-608, 8.4: control codes of channel 1


def odd(byte):
    return byte | 0x80 * (bin(byte).count("1") % 2 == 0)


def sei(pair):
    """Return an SEI message with one pair of caption bytes: ATSC A/53 part 4, 6.2.3.1, in H.264, D.1.6."""
    pair = b"\x80\x80" if pair is None else bytes(map(odd, pair.to_bytes(2, "big")))
    message = b"\xb5\x00\x31GA94\x03\x41\xff\xfc" + pair + b"\xff"
    return b"\0\0\0\x01\x06\x04" + bytes([len(message)]) + message + b"\x80"


def captioned(path, *options):
    """Make a 4 s clip at 30 frames per second with two roll-up captions."""
    raw = media.clip(path.with_suffix(".h264"), "-c:v", "libx264", "-bf", 0, "-preset", "ultrafast", "-x264-params", "slices=1",
                     picture="testsrc2=size=64x48:rate=30:duration=4")  # fmt: skip
    codes = [ROLL_UP, ROLL_UP, CARRIAGE_RETURN, CARRIAGE_RETURN, ROW_15, ROW_15, 0x4845, 0x4C4C, 0x4F20] + [None] * 40
    codes += [CARRIAGE_RETURN, CARRIAGE_RETURN, ROW_15, ROW_15, 0x574F, 0x524C, 0x4421] + [None] * 40 + [ERASE, ERASE]
    pairs = iter(codes)
    data = re.sub(
        rb"\0\0\0?\x01[\x65\x41\x61\x21\x01]", lambda match: sei(next(pairs, None)) + match[0], raw.read_bytes()
    )
    raw.write_bytes(data)
    media.ffmpeg("-r", 30, "-i", raw, "-c", "copy", *options, path)
    return path


def captions(path, folder):
    """Return the captions of a clip as subtitles, as ffmpeg's decoder shows them."""
    name = folder / "captioned.mp4"
    name.unlink(missing_ok=True)
    name.symlink_to(path)
    return media.ffmpeg("-f", "lavfi", "-i", f"movie={name}[out+subcc]", "-map", "0:s", "-f", "srt", "-").decode()
