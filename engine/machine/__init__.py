"""What this machine has: driver, GPUs, packages, hardware codecs. What may hang or crash is asked in a process of its own."""
