"""Value types shared by the whole engine: errors, frames, timestamps, and the model protocol."""
