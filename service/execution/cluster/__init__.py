"""The executor on a Ray cluster: one actor per device, on any number of machines that share a folder."""
