"""The life of a job, from submission to deletion."""
