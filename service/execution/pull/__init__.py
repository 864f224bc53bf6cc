"""Streams that the server pulls: the server's side (`puller`) and the process of each (`process`)."""
