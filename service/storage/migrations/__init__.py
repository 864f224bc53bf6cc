"""Alembic migrations, run when a database is opened."""

from pathlib import Path

FOLDER = Path(__file__).parent
