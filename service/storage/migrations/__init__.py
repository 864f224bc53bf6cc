"""The steps that bring a database to this version's tables, run by alembic when a database is opened."""

from pathlib import Path

FOLDER = Path(__file__).parent
