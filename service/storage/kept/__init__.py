"""Sources and logs of jobs in an object store, where servers that share no folder find them."""
