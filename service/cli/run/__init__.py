"""`upres IN OUT`: which inputs go where, which model each gets, and how they are upscaled one after the other."""
