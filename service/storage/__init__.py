"""The database, results and job folders."""
