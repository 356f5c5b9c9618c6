"""A notebook-first workspace for new state-space models and linear attention.

Importing `lab` is cheap: papermill does it for every notebook it opens, and so nothing here
imports torch. Take models, tasks and training from their own modules, `from lab.scan import ...`.
"""

from lab.records.parameters import parameters

__version__ = "0.1.0"

__all__ = ["parameters"]
