"""The executor on a cluster of Ray: one actor a device, on any number of machines that share a folder."""
