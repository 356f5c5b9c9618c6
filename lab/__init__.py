"""A notebook-first workspace for new state-space models and linear attention.

Importing `lab` is cheap, because it does not import torch: papermill imports it for every notebook
that it opens. Import models, tasks and training from their own modules, as in
`from lab.scan import ...`.
"""

from lab.records.parameters import parameters

__version__ = "0.1.0"

__all__ = ["parameters"]
