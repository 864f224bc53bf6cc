"""Every way that this machine can run a network, measured on frames of one size: what `upres tune` and `selftest` do."""
