"""Commands about this machine: what it has (`doctor`)."""
