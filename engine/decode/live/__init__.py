"""Live sources: network addresses, sources opened by the ffmpeg program, and files played in real time."""
