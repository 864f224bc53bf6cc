"""LL-HLS: playback of a live job at a URL by common players (draft-pantos-hls-rfc8216bis)."""
