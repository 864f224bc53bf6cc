"""The frame pipeline (read, pre-filter, upscale, encode), its options and progress, and predictions made before it starts."""
