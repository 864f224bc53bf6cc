"""Commands about this machine: what it can run (`doctor`), what is fastest (`tune`), and whether results are right (`selftest`)."""
