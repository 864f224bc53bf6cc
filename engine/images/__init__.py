"""Images: upscaling of stills with their metadata, frames of a video as stills, and videos as numbered or animated images."""
