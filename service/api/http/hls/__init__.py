"""LL-HLS: a live job at an address, for players that want one (draft-pantos-hls-rfc8216bis)."""
