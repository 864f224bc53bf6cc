"""The process of one attempt at one job: from a source to a log and a joined file."""
