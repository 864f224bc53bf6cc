"""Jobs that several devices process in ranges, for any executor."""
