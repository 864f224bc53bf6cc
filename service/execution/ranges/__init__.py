"""Jobs that several devices make in ranges, for any executor."""
