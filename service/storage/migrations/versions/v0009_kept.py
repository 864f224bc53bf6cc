"""What the store of jobs has of a job stands in its row: its source, and the generations that its log consists of."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add what is new; nothing that was there changes."""
    op.add_column("jobs", sa.Column("kept", sa.JSON, nullable=False, server_default="{}"))
