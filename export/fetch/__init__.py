"""Download of weights, with verification of their hashes."""
