"""Inspection of sources before their jobs are accepted: the server's side (`probe`) and the process of each (`process`)."""
