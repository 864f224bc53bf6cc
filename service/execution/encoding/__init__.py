"""GPU encoders that a worker opens on behalf of its attempts, which have no access to the driver."""
