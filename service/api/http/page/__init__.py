"""The page at `/`: shows a video while it is upscaled, and the state of jobs."""
