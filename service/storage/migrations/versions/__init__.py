"""One module per migration, numbered in order; a released migration never changes."""
