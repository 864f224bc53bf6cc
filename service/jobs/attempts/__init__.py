"""Attempts at jobs: starting them, their state while they run, and their reports."""
