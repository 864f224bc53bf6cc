"""Sources that come as they are recorded: network addresses, what the ffmpeg program opens for us, and files at their own pace."""
