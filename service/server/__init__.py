"""The process: settings, its servers, metrics and health."""
