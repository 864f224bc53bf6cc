"""Submission of jobs: their creation, their sources, and the rollback of what fails."""
