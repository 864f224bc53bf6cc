"""A live source upscaled as it arrives, and sent to several destinations concurrently, each at its own pace."""
