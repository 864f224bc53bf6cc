"""What a job is: its request, states, limits and errors."""
