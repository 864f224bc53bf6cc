"""TensorRT engines as files: their manifests, and the checks before an engine is used."""
