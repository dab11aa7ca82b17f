"""The append path: a process's own logs, written in groups, fenced by their primary key, taken over when it dies."""
