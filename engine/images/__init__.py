"""Images: stills with all they carry, frames of a video as stills, and videos written as numbered or animated images."""
