"""The HTTP door: the v2 contract, its socket and downloads."""
