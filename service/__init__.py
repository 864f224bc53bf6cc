"""The command line and the service around the engine."""
