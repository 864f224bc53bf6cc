"""Table of scheduled cleanups; results get a prefix for their server, and jobs the base URL of their links.

Results of existing jobs stay where they are: their prefix is empty.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add new tables and columns; existing ones do not change."""
    op.add_column("jobs", sa.Column("result_prefix", sa.Text, nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("progress_before", sa.Float, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("base_url", sa.Text))
    op.create_index("ix_jobs_ended_at", "jobs", ["ended_at"])
    op.create_table(
        "cleanups",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("what", sa.Text, primary_key=True),
        sa.Column("result_prefix", sa.Text, nullable=False),
        sa.Column("due_at", sa.Float, nullable=False, index=True),
    )
    op.execute("UPDATE meta SET value = '2' WHERE name = 'version'")  # makes upres 0.1 refuse the database
