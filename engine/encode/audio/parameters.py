"""Decoder parameters of audio tracks: those in a track's header, and those in packets that change them.

AAC: ISO/IEC 14496-3, 1.6.2.1 (AudioSpecificConfig) and 1.A.3.2 (ADTS). Vorbis: its specification, 4.2.
"""

import struct
from typing import Any

from av import AudioStream, Packet

from upres.engine.encode.codec_delay import side_data

from .codecs import AAC

RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
LC_BASED = (2, 5, 29)  # audio object types whose decoders also accept packets of AAC LC
IDENTIFICATION, SETUP = b"\x01vorbis", b"\x05vorbis"
IDENTIFICATION_BYTES = 30
TTA_HEADER = struct.Struct("<10xII")  # after magic, format, channels and bits: rate, samples


def of_track(stream: AudioStream) -> bytes:
    """Return the parameters in a track's header; empty if its packets are self-describing."""
    return _normal(stream.codec_context.name, stream.codec_context.extradata or b"")


def of_packet(stream: AudioStream, packet: "Packet[Any]") -> bytes:
    """Return the new parameters in a packet; empty if there are none."""
    data = bytes(memoryview(packet)[:4])
    if stream.codec_context.name == "aac" and len(data) == 4 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:
        object_type, rate, channels = (data[2] >> 6) + 1, data[2] >> 2 & 15, (data[2] & 1) << 2 | data[3] >> 6
        return (object_type << 11 | rate << 7 | channels << 3).to_bytes(2, "big")
    return _normal(stream.codec_context.name, side_data(packet, "new_extradata"))


def encodable(codec: str, parameters: bytes) -> tuple[int, str] | None:
    """Return rate and layout of an AAC encoder whose packets are compatible with a header; None if there is no such encoder."""
    if codec != "aac" or len(parameters) < 2:
        return None
    value = int.from_bytes(parameters[:2], "big")
    object_type, rate, channels = value >> 11, value >> 7 & 15, value >> 3 & 15
    if object_type not in LC_BASED or rate >= len(RATES) or not 1 <= channels <= len(AAC.layouts):
        return None
    return RATES[rate], list(AAC.layouts)[channels - 1]


def tta_samples(stream: AudioStream) -> int:
    """Return the number of samples of a TTA track, from its header; 0 for other codecs."""
    header = stream.codec_context.extradata or b""
    return TTA_HEADER.unpack_from(header)[1] if header[:4] == b"TTA1" and len(header) >= TTA_HEADER.size else 0


def _normal(codec: str, header: bytes) -> bytes:
    """Return the part of a header that decoders need, so that headers can be compared."""
    if codec == "aac":
        return header[:2]
    start, setup = header.find(IDENTIFICATION), header.rfind(SETUP)
    if codec == "vorbis" and min(start, setup) >= 0:
        return header[start : start + IDENTIFICATION_BYTES] + header[setup:]  # without comments
    return header
