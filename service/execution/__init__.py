"""Where attempts run: workers, their processes and what confines them."""
