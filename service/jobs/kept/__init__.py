"""Durable storage of jobs' sources and logs: in an object store, or only in the job folders."""
