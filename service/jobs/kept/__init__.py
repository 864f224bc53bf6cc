"""Jobs whose sources and logs are kept in an object store."""
