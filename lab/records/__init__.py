"""Notebooks as files: how an experiment begins, what it is given, and what a run left behind."""
