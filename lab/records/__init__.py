"""Notebook parameters, papermill's handler, reading of executed notebooks, and the research log."""
