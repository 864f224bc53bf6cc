"""Facts about this machine: driver, GPUs, packages, hardware codecs. Queries that may hang or crash run in a separate process."""
