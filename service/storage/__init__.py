"""Persistence: the database, the result store, the object store for jobs, and job folders."""
