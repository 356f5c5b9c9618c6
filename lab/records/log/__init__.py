"""The research log: a front page, a page for each experiment, and the history of their runs.

It is generated from the records in executed notebooks, the doubts in `doubts.yaml` beside them, and
the history stored in the log itself. Equal input files give equal bytes.
"""
