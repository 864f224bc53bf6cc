"""Sources to frames: opening, demuxing, decoding, filtering."""
