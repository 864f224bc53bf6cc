"""Domain model of jobs: requests, limits, states and errors."""
