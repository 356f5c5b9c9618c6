"""Parameters of a notebook, papermill's handler, executed notebooks read back, the research log."""
