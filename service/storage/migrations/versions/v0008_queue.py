"""Queue of waiting jobs in the database, shared by several servers, and the order in which API keys were last served."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add new tables and columns; existing ones do not change."""
    op.add_column("jobs", sa.Column("queued", sa.Float))
    op.create_index("jobs_queued", "jobs", ["queued"])
    op.add_column("keys", sa.Column("served", sa.BigInteger, nullable=False, server_default="0"))
