"""Checks made before anything trains: of a task, and of a model.

What would invalidate every later number (a model that sees the future, two forms of it that
disagree, NaN in the data) stops with an `AuditError`. All the rest is shown, for a reader to judge.
"""

from lab.audit.of_model import disagreement, model
from lab.audit.of_task import task
from lab.audit.report import AuditError, Report

__all__ = ["AuditError", "Report", "disagreement", "model", "task"]
