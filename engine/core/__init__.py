"""Value types that everything uses: errors, frames, time, and the model protocol."""
