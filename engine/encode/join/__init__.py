"""One file from a log: in a place on disk, or written out while the log grows."""
