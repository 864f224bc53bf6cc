"""Check that an audio packet holds exactly one frame, for codecs that MP4's demuxer parses again, which would split other packets.

AC-3 and E-AC-3: ETSI TS 102 366, 4.4.1 (sync words, frame sizes) and E.1.3.1. MPEG audio: ISO/IEC 11172-3, 2.4.2.3.
"""

AC3 = ("ac3", "eac3")
MPEG = ("mp1", "mp2")
SYNC = b"\x0b\x77"
BITRATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)  # kbit/s
RATES = (48000, 44100, 32000)
LAST_AC3 = 10  # bsid; those above are E-AC-3's
DEPENDENT = 1  # strmtyp: a substream of the previous frame
HEADER = 6  # number of header bytes that are read here


def is_whole(codec: str, data: bytes) -> bool:
    """Report whether a packet holds exactly one complete frame. Always true for codecs not listed here."""
    if codec in MPEG:
        return len(data) >= 4 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x06 != 0
    if codec not in AC3:
        return True
    at = _size(data)
    if not 0 < at <= len(data):
        return False
    while data[at : at + 2] == SYNC:
        size = _size(data[at:])
        if not _is_dependent(data[at:]) or not 0 < size <= len(data) - at:
            return False
        at += size
    return True


def _size(data: bytes) -> int:
    """Return the size in bytes of the frame at the start of the data; 0 if there is none."""
    if len(data) < HEADER or data[:2] != SYNC:
        return 0
    if data[5] >> 3 > LAST_AC3:
        return 2 * (((data[2] & 7) << 8 | data[3]) + 1)
    rate, code = data[4] >> 6, data[4] & 63
    if rate >= len(RATES) or code // 2 >= len(BITRATES):
        return 0
    words = BITRATES[code // 2] * 1000 * 1536 // (16 * RATES[rate])
    return 2 * (words + (code & 1 if RATES[rate] == 44100 else 0))


def _is_dependent(data: bytes) -> bool:
    return len(data) >= HEADER and data[5] >> 3 > LAST_AC3 and data[2] >> 6 == DEPENDENT
