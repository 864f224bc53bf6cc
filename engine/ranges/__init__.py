"""One job in ranges of segments that several devices make at once, to the same bytes as one: planned, made, merged."""
