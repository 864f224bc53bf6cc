"""One module a step, in order of its number; a step that was released never changes."""
