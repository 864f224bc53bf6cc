"""Sources and logs of jobs in an object store, for servers that do not share a folder."""
