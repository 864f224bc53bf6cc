"""Audio tracks of the log: copied from the source, or encoded."""
