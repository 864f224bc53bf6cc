"""`upres IN OUT`: pairing of inputs with targets, choice of a model for each, and upscaling of one input after the other."""
