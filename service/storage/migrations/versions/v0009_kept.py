"""Record of what the object store has of a job: its source, and the generations of its log."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add new tables and columns; existing ones do not change."""
    op.add_column("jobs", sa.Column("kept", sa.JSON, nullable=False, server_default="{}"))
