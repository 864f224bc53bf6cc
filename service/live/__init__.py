"""Live jobs: the attempt's socket, the relay and the ring."""
