"""A live source upscaled as it comes, and sent to several places at once, each at its own pace."""
