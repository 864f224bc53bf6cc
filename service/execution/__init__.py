"""Execution of attempts: executors, workers, the attempts' processes and their sandbox."""
