"""Numbers in pictures, as dark and light blocks of luma that are large enough to be read after upscaling and H.264."""

from av import VideoFrame

COLUMNS, ROWS = 8, 2
BITS = 12  # of the number; the other four are a checksum
DARK, LIGHT, GRAY = 32, 224, 128


def stamped(frame: VideoFrame, number: int) -> VideoFrame:
    """Draw a number below 4096 over the upper third of a frame; returns a gray frame in yuv420p."""
    planes = frame.reformat(format="yuv420p").to_ndarray()
    high, wide = frame.height // 6, frame.width // COLUMNS
    code = number << 4 | _check(number)
    for place in range(COLUMNS * ROWS):
        row, column = divmod(place, COLUMNS)
        light = code >> place & 1
        planes[row * high : (row + 1) * high, column * wide : (column + 1) * wide] = LIGHT if light else DARK
    planes[frame.height :] = GRAY
    return VideoFrame.from_ndarray(planes, format="yuv420p")


def read(frame: VideoFrame) -> int | None:
    """Read the number in a frame of any size; None if there is none."""
    luma = frame.reformat(format="gray").to_ndarray()
    high, wide = frame.height // 6, frame.width // COLUMNS
    blocks = luma[: ROWS * high, : COLUMNS * wide].reshape(ROWS, high, COLUMNS, wide)
    middles = blocks[:, high // 4 : -(high // 4), :, wide // 4 : -(wide // 4)].mean((1, 3)).ravel()
    code = sum(1 << place for place, value in enumerate(middles) if value > GRAY)
    number = code >> 4
    return number if code & 15 == _check(number) else None


def _check(number: int) -> int:
    """Compute a checksum of the number, for which an all-dark or all-light picture is not valid."""
    return (5 + (number & 15) + 3 * (number >> 4 & 15) + 7 * (number >> 8)) & 15
