"""Which criteria stood in the committed source of a notebook before it ran, by its git history.

A criterion was written "before any result" if both the commit at which this run starts and the
commit at which the first committed result was run declare it in the form that is judged. It was
written "after a result" if only the former does, and is "not committed" if the former does not.
Runs whose results were never committed leave no trace in the history, and smoke runs do not count.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import git
from lab.evidence.comparison import shown_limit
from lab.evidence.planned import Planned
from lab.evidence.written import Written
from lab.experiment.declared import Declared, Form, Unread, declared
from lab.files import PROJECT

# The fields that can change a status or the verdict, and how a difference in them is described.
_SHOWN = {
    "measured": "measured {!r}", "statistic": "statistic {}", "kind": "kind {}", "arm": "arm {}",
    "paired": "paired {}", "parts": "parts {}",
}  # fmt: skip
_COMMIT = re.compile(r'"commit": "([0-9a-f]{7,40})(?:\+changes)?"')


def standing(number: str, plan: Mapping[str, Planned], root: Path = PROJECT) -> dict[str, Written]:
    """When each criterion of an experiment was written, as the history at `root` has it.

    Args:
        number: number of the experiment, with which the file name of its notebook starts.
        plan: the criteria by id, as this run judges them.
        root: the top of the checkout.
    """
    top = git.output(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top.rstrip("\n")).resolve() != root.resolve():
        return dict.fromkeys(plan, Written("not known", "there is no git history here"))
    now = _notebook(root, "HEAD", number)
    if now is None:
        return dict.fromkeys(plan, Written("not committed", "its notebook is in no commit"))
    path, source = now
    written = declared(_text(root / path))  # for what only a run could tell
    head = _first_result(root, number)
    before = None if head is None else _notebook(root, head, number)
    then = None if before is None else declared(before[1])
    at_head = declared(source)
    return {
        id_: _of_first(id_, each, written, head, then)
        if (found := _at_head(id_, each, written, at_head)) is None
        else found
        for id_, each in plan.items()
    }


def _at_head(id_: str, planned: Planned, here: Declared, commit: Declared) -> Written | None:
    """What to say if the commit does not declare a criterion as it is judged; else None."""
    if id_ not in commit.forms:
        if commit.hidden:
            return Written("not known", "ids in the commit are computed")
        return Written("not committed")
    changes = _changes(id_, planned, here, commit)
    return Written("not committed", f"{changes} there") if changes else None


def _of_first(
    id_: str, planned: Planned, here: Declared, head: str | None, then: Declared | None
) -> Written:
    """For a committed criterion: whether it was already committed before the first result."""
    if head is None:
        return Written("before any result")
    if then is None:
        return Written("not known", f"the history has no notebook at {head[:12]}")
    if id_ not in then.forms:
        if then.hidden:
            return Written("not known", f"ids at {head[:12]} are computed")
        return Written("after a result", f"not there at {head[:12]}")
    changes = _changes(id_, planned, here, then)
    if changes:
        return Written("after a result", f"{changes} at {head[:12]}")
    return Written("before any result")


def _changes(id_: str, planned: Planned, here: Declared, other: Declared) -> str:
    """How a source differs from a criterion as it is judged, in words; empty if it does not.

    If a source has several forms under one id, as older notebooks do, one match is enough.
    """
    texts = here.forms.get(id_, [])
    found = [_differences(planned, form, texts) for form in other.forms[id_]]
    return min(found, key=len)


def _differences(planned: Planned, form: Form, here: list[Form]) -> str:
    """How one form differs, such as "limit > 0.8, kind control"."""
    words = []
    if not all(_same(name, planned, form, here) for name in ("op", "threshold")):
        words.append(f"limit {_limit(form)}")
    for name, text in _SHOWN.items():
        if not _same(name, planned, form, here):
            words.append(text.format(_shown(form[name])))
    if bool(form.get("unattainable", planned.unattainable)) != bool(planned.unattainable):
        words.append("attainable" if planned.unattainable else "unattainable")
    return ", ".join(words)


def _same(name: str, planned: Planned, form: Form, here: list[Form]) -> bool:
    """Whether an argument has the judged value; if it cannot be read, whether its text is equal."""
    value = form.get(name, getattr(planned, name))  # `Evidence.check` had fewer arguments
    if isinstance(value, Unread):
        return any(each.get(name) == value for each in here)
    return bool(_plain(value) == _plain(getattr(planned, name)))


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | dict | range) else value


def _limit(form: Form) -> str:
    op, threshold = form["op"], form["threshold"]
    try:
        return shown_limit(str(_shown(op)), threshold)
    except (TypeError, ValueError):
        return f"{_shown(op)} {_shown(threshold)}"


def _shown(value: Any) -> Any:
    return value.text if isinstance(value, Unread) else value


# --- the history ---------------------------------------------------------------------------------


def _notebook(root: Path, commit: str, number: str) -> tuple[str, str] | None:
    """Path and source of the notebook of an experiment at a commit, if there is exactly one."""
    listed = git.output(root, "ls-tree", "-z", "--name-only", commit, "notebooks/") or ""
    paths = [path for path in listed.split("\0") if path.startswith(f"notebooks/{number}_")]
    paths = [path for path in paths if path.endswith(".py")]
    if len(paths) != 1:
        return None
    source = git.output(root, "show", f"{commit}:{paths[0]}")
    return None if source is None else (paths[0], source)


def _first_result(root: Path, number: str) -> str | None:
    """The commit at which the first committed result of an experiment ran; None without a result.

    Its record names this commit. If it names none, or one that no longer exists, the parent of the
    commit that added the result is used.
    """
    result = f"executed/{number}.ipynb"
    listed = git.output(
        root, "log", "--format=%H", "--diff-filter=A", "--reverse", "HEAD", "--", result
    )
    if not listed:
        return None
    added = listed.split()[0]
    match = _COMMIT.search(git.output(root, "show", f"{added}:{result}") or "")
    named = "" if match is None else match[1]
    if named and git.output(root, "cat-file", "-e", f"{named}^{{commit}}") is not None:
        return named
    parent = git.output(root, "rev-parse", "--verify", "--quiet", f"{added}^")
    return f"{added}^" if parent is None else parent.strip()  # the former: of no known notebook


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
