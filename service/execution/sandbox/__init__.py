"""Processes that open untrusted media: forked from a prepared one, limited, and cut off from network and files."""
