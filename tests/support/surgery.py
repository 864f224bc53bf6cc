"""Edit files at the byte level, for structures that no muxer here writes: MP4 and QuickTime boxes, Matroska elements."""

import struct

BOXES = (b"moov", b"trak", b"mdia", b"minf", b"stbl")  # boxes that contain boxes
ELEMENTS = (b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0")  # Segment, Tracks, TrackEntry, Video


def boxes(data, change):
    """Rewrite every box's body with `change(kind, body)`. Media must precede the index, because offsets are not adjusted."""
    out, at = b"", 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + size]
        body = change(kind, boxes(body, change) if kind in BOXES else body)
        out, at = out + struct.pack(">I4s", len(body) + 8, kind) + body, at + size
    return out


def first_entry(body, tag, more=b"", name=None):
    """Return the body of a `stsd` whose first entry, if of this kind, has boxes appended and another name."""
    size, kind = struct.unpack_from(">I4s", body, 8)
    if kind != tag:
        return body
    entry = struct.pack(">I4s", size + len(more), name or kind) + body[16 : 8 + size] + more
    return body[:8] + entry + body[8 + size :]


def elements(data, change):
    """Rewrite every element's body with `change(name, body)`. Offsets are not adjusted, so the file must be a live one."""
    out, at = b"", 0
    while at < len(data):
        start = at + 9 - data[at].bit_length()
        end = start + 9 - data[start].bit_length()
        name, bits = data[at:start], (1 << 7 * (end - start)) - 1
        size = int.from_bytes(data[start:end], "big") & bits
        at = len(data) if size == bits else end + size
        body = change(name, elements(data[end:at], change) if name in ELEMENTS else data[end:at])
        length = (1 << 56) - 1 if size == bits else len(body)
        out += name + (1 << 56 | length).to_bytes(8, "big") + body
    return out
