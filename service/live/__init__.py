"""Live sessions: the attempt's socket, the relay and the ring."""
