"""Reading of sources: opening, demuxing, decoding and pre-filtering."""
