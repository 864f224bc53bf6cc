"""Codec names for players (RFC 6381), read from a track's header."""

from upres.engine.segments.model import Track

SOUND = {"aac": "mp4a.40.2", "opus": "opus", "flac": "flac", "mp3": "mp4a.6B", "ac3": "ac-3", "eac3": "ec-3"}


def codec_name(track: Track) -> str | None:
    """Return the name for `codecs="…"`; None for an unsupported codec.

    For H.264 it contains profile, constraints and level (ISO/IEC 14496-15, 5.3.3), for HEVC more (same standard, annex E.3).
    """
    if track.codec in SOUND:
        return SOUND[track.codec]
    if (at := track.init.find(b"avcC")) > 0:
        return f"avc1.{track.init[at + 5 : at + 8].hex()}"
    if (at := track.init.find(b"hvcC")) > 0:
        return _hevc(track.init[at + 5 : at + 17])
    return None


def mime_type(track: Track) -> str | None:
    """Return the MIME type, as for `MediaSource.isTypeSupported`."""
    name = codec_name(track)
    return name and f'{"video" if track.name == "video" else "audio"}/mp4; codecs="{name}"'


def _hevc(record: bytes) -> str:
    """Return the name for a configuration record, given from its second byte."""
    profile, tier = record[0] & 31, "H" if record[0] & 32 else "L"
    compatible = int(f"{int.from_bytes(record[1:5], 'big'):032b}"[::-1], 2)
    constraints = record[5:11].rstrip(b"\0").hex(".")
    return f"hvc1.{profile}.{compatible:x}.{tier}{record[11]}" + (f".{constraints}" if constraints else "")
