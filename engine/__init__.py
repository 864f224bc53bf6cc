"""Frames in, larger frames out: reading, inference, the segment log and the joined file. Knows nothing of jobs or networks."""
