"""Criteria that are fixed before a run, the verdict that follows from them, and the record of both.

A notebook creates one `Evidence`, calls `check` once per criterion and `summary` once, and displays
it. The output contains the record as JSON with MIME type `MIME`, and `lab.research_log` reads it
from the executed notebook. Nothing here imports torch, so that reading a record stays cheap.
"""

from lab.evidence.comparison import OPS, holds, shown
from lab.evidence.criteria import COLUMNS, KINDS, Criterion, criterion
from lab.evidence.display import as_html, as_text
from lab.evidence.machine import commit, environment
from lab.evidence.record import MIME, SCHEMA, Evidence
from lab.evidence.stored import line_of, reproducible, same, summary_of, text_of, validate
from lab.evidence.summary import Summary
from lab.evidence.verdict import RULE, Verdict, decide, explain, verdict_line

__all__ = [
    "COLUMNS",
    "KINDS",
    "MIME",
    "OPS",
    "RULE",
    "SCHEMA",
    "Criterion",
    "Evidence",
    "Summary",
    "Verdict",
    "as_html",
    "as_text",
    "commit",
    "criterion",
    "decide",
    "environment",
    "explain",
    "holds",
    "line_of",
    "reproducible",
    "same",
    "shown",
    "summary_of",
    "text_of",
    "validate",
    "verdict_line",
]
