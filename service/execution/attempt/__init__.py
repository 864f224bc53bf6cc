"""One attempt at one job: a source to a log and a joined file, in a process of its own."""
