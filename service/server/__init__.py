"""The server process: settings, endpoints, metrics and health."""
