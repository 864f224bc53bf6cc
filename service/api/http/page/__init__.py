"""The page at `/`: watch a picture while it is upscaled, and keep an eye on jobs."""
