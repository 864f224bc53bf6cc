"""Commands about this machine: what it has (`doctor`), what is fastest on it (`tune`), whether it computes right (`selftest`)."""
