"""What the graphs that convert colors call their inputs and outputs; apart from `yuv_graph`, which imports `onnx`."""

PLANES = ("y", "u", "v")
PLACES = ("rows", "columns")
UPSCALED = ("upscaled_y", "upscaled_u", "upscaled_v")
UPSCALED_PLACES = ("upscaled_rows", "upscaled_columns")
