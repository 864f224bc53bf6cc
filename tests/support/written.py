"""What a command wrote: the names in a folder, and the frames of a video."""

import av


def names(folder):
    return {path.name for path in folder.iterdir()}


def size_and_frames(path):
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    return frames[0].width, frames[0].height, len(frames)
