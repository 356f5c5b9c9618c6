"""Detects whether a front end can show widgets: a live notebook, or a terminal or headless run."""

import os
import sys


def live() -> bool:
    """Whether a front end shows widgets: a notebook on a Jupyter server, or VS Code.

    Jupyter servers name the notebook to its kernel in JPY_SESSION_NAME; papermill and nbval start
    kernels without one. LAB_PANELS=live or LAB_PANELS=static decides otherwise.
    """
    wanted = os.environ.get("LAB_PANELS")
    if wanted not in (None, "live", "static"):
        raise ValueError(f"LAB_PANELS is {wanted!r}; it must be live or static")
    return (wanted or ("live" if _in_notebook() else "static")) == "live"


def _in_notebook() -> bool:
    main = sys.modules.get("__main__")
    return bool(os.environ.get("JPY_SESSION_NAME")) or hasattr(main, "__vsc_ipynb_file__")
