"""Networks and the sessions that run them over frames."""
