"""Servers that need more than a command: a file of their own, or a process beside them. In: a command. Out: it runs."""
