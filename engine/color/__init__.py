"""Color conversion, bit depth and orientation of frames."""
