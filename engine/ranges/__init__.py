"""One job processed as ranges of segments on several devices, with the same result bytes as on one: plan, process, merge."""
