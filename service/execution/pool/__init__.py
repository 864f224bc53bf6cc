"""Many workers as one executor, wherever each of them runs."""
