"""Executed notebooks: the papermill handler that writes them, their readers, the research log."""
