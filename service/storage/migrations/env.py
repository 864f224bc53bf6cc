"""What alembic runs to take the steps: on the connection that was handed to it, in the transaction that is open there."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
