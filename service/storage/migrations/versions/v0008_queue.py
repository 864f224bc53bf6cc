"""Jobs that wait stand in the database, where several servers take them from, and keys in the order in which they were served."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add what is new; nothing that was there changes."""
    op.add_column("jobs", sa.Column("queued", sa.Float))
    op.create_index("jobs_queued", "jobs", ["queued"])
    op.add_column("keys", sa.Column("served", sa.BigInteger, nullable=False, server_default="0"))
