"""Sources looked at before their jobs are accepted: who asks for it, and what the process of each look does."""
