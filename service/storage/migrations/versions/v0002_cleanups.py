"""Files that are to be removed are rows, and results lie in a folder of their server; a job knows the base of its links.

Results of jobs that were there before stay where they lie: their prefix is empty.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what is new; nothing that was there changes."""
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
    op.execute("UPDATE meta SET value = '2' WHERE name = 'version'")  # by which upres 0.1 refuses what it does not know
