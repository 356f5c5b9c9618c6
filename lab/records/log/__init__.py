"""The research log: one front page, a page for each experiment, and the history of their runs.

All of it is generated from the records that executed notebooks carry, from the doubts kept beside
them, and from the history kept in the log itself; the same files give the same bytes.
"""
