"""Criteria written down before a run, the verdict that follows from them, and the record of both.

A notebook makes one `Evidence`, calls `check` once for every criterion and displays it. The display
carries the record as JSON of type `MIME`, and `lab.research_log` reads it back from the executed
notebook. Nothing here imports torch: reading a record must stay cheap.
"""

import dataclasses
import html
import importlib.metadata
import math
import numbers
import operator
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any

MIME = "application/vnd.lab.evidence+json"
SCHEMA = 1

KINDS = ("success", "failure", "kill", "context")
COLUMNS = ("id", "arm", "metric", "kind", "value", "limit", "status")

# What a change of the code means: anything here that differs from the commit is worth a mark.
CODE = ("lab", "notebooks", "params", "pyproject.toml", "constraints.txt")

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "in": lambda value, interval: interval[0] <= value <= interval[1],
}
OPS = tuple(_COMPARE)

# Spellings that look unlike the operator they stand for, so that similarity would not find it.
_MEANT = {"=": "==", "=<": "<=", "=>": ">=", "≤": "<=", "≥": ">=", "∈": "in"}

_STARTED = time.perf_counter()

Threshold = float | tuple[float, float]


class Verdict(StrEnum):
    """What a run says about its hypothesis."""

    PROCEED = "PROCEED"
    DEBUG = "DEBUG"
    ABANDON = "ABANDON"
    INCONCLUSIVE = "INCONCLUSIVE"

    def __repr__(self) -> str:
        """The bare word, as a notebook cell shows it."""
        return self.value


# The rule of `decide`, for readers of the research log; a test holds the two together.
RULE = (
    ("any kill criterion met", Verdict.ABANDON),
    ("no success criterion, or any value not finite", Verdict.INCONCLUSIVE),
    ("any success criterion missed, or any failure criterion met", Verdict.DEBUG),
    ("otherwise", Verdict.PROCEED),
)


def holds(value: float | None, op: str, threshold: Threshold) -> bool:
    """Whether `value op threshold`; never for None, which stands for a value that is not finite."""
    return value is not None and bool(_COMPARE[op](value, threshold))


@dataclass(frozen=True)
class Criterion:
    """One comparison of a measured value with a threshold; make it with `criterion`."""

    id: str
    arm: str
    metric: str
    value: float | None
    spread: float | None
    op: str
    threshold: Threshold
    kind: str

    @property
    def met(self) -> bool:
        """Whether the comparison holds, wanted or not."""
        return holds(self.value, self.op, self.threshold)

    @property
    def decides(self) -> bool:
        """Whether the verdict may depend on it: not of the reported arm, and not context."""
        return self.arm != "reported" and self.kind != "context"

    @property
    def as_wanted(self) -> bool:
        """Whether it speaks for the hypothesis: a success met, or a failure or kill not met."""
        return self.value is not None and self.met == (self.kind == "success")

    @property
    def status(self) -> str:
        """The outcome in words, without the measured number."""
        if self.kind == "context":
            return "recorded"
        if self.value is None:
            return "not finite"
        return "met" if self.met else "missed" if self.kind == "success" else "not met"

    @property
    def name(self) -> str:
        """Id, arm and metric: what tells it from every other criterion of the experiment."""
        return f"{self.id} ({', '.join(filter(None, [self.arm, self.metric]))})"

    def record(self) -> dict[str, Any]:
        """The criterion as plain JSON values."""
        threshold = list(self.threshold) if isinstance(self.threshold, tuple) else self.threshold
        return {**dataclasses.asdict(self), "threshold": threshold, "met": self.met}

    def row(self) -> tuple[str, ...]:
        """The criterion as text, one entry for each of `COLUMNS`."""
        value, limit = _shown_value(self), _shown_limit(self.op, self.threshold)
        return (self.id, self.arm, self.metric, self.kind, value, limit, self.status)


def criterion(
    id: str,  # noqa: A002  (the word of the specifications and of the record)
    value: object,
    op: str,
    threshold: object,
    *,
    arm: str = "corrected",
    kind: str = "success",
    metric: str = "",
    spread: object = None,
) -> Criterion:
    """A checked criterion.

    Args:
        id: as in the specification, "C1".
        value: one number; None, NaN and infinities are kept as None. A tensor or numpy scalar of
            one element will do.
        op: one of `OPS`.
        threshold: a finite number, or for "in" the closed interval (low, high).
        arm: which of the runs the value comes from; "reported" repeats an earlier run.
        kind: one of `KINDS`.
        metric: what was measured, where the id has several.
        spread: how far seeds lie apart, in units of the value; None if there is only one.

    Raises:
        TypeError: a value is not a number, or a name is not text.
        ValueError: op, kind, arm, threshold or spread is not as above.
    """
    for name, text in {"id": id, "arm": arm, "metric": metric, "op": op, "kind": kind}.items():
        _check_text(text, f"{name} of criterion {id!r}", empty=name == "metric")
    _check_choice(op, OPS, f"op of criterion {id}")
    _check_choice(kind, KINDS, f"kind of criterion {id}")
    _check_arm(arm, f"arm of criterion {id}")
    return Criterion(
        id=id,
        arm=arm,
        metric=metric,
        value=_number(value, f"value of criterion {id}"),
        spread=_spread(spread, f"spread of criterion {id}"),
        op=op,
        threshold=_threshold(threshold, op, f"threshold of criterion {id}"),
        kind=kind,
    )


def decide(criteria: Iterable[Criterion]) -> Verdict:
    """The verdict, by one fixed rule; the first line that applies decides.

    ============================================================  ============
    among the criteria that decide                                verdict
    ============================================================  ============
    any kill criterion met                                        ABANDON
    no success criterion, or any value not finite                 INCONCLUSIVE
    any success criterion missed, or any failure criterion met    DEBUG
    otherwise                                                     PROCEED
    ============================================================  ============

    Criteria of the arm "reported" repeat an earlier run, and those of kind "context" are there for
    the reader: both are shown and never decide.
    """
    return _judge(criteria)[0]


def explain(criteria: Iterable[Criterion]) -> str:
    """One sentence that names the criteria which decided the verdict, without measured numbers."""
    return _judge(criteria)[1]


class Evidence:
    """The criteria of one experiment, and the record of its run.

    Args:
        experiment: its number as text, "004".
        title: its name in words.
        reported: what an earlier run measured, by name; empty if there was none.
        parameters: a dataclass instance or a mapping of plain values; copied.
        seeds: the seeds of all the runs that the criteria speak of.

    Raises:
        TypeError: an argument is not of its type, or a parameter is not a plain value.
        ValueError: the experiment or its title is empty.
    """

    def __init__(
        self,
        experiment: str,
        *,
        title: str,
        reported: Mapping[str, float],
        parameters: object = None,
        seeds: Sequence[int] = (),
    ) -> None:
        _check_text(experiment, "experiment")
        _check_text(title, f"title of experiment {experiment}")
        self.experiment = experiment
        self.title = title
        self.reported = _reported(reported)
        self.parameters = _parameters(parameters)
        self.seeds = [operator.index(seed) for seed in seeds]
        self.criteria: list[Criterion] = []

    def check(
        self,
        id: str,  # noqa: A002
        value: object,
        op: str,
        threshold: object,
        *,
        arm: str = "corrected",
        kind: str = "success",
        metric: str = "",
        spread: object = None,
    ) -> bool:
        """Add a criterion, and say whether its comparison holds; a missed one stops nothing.

        Args: as for `criterion`.

        Raises:
            TypeError: as for `criterion`.
            ValueError: as for `criterion`, or the same id, arm and metric were checked before.
        """
        new = criterion(id, value, op, threshold, arm=arm, kind=kind, metric=metric, spread=spread)
        # Two results under one name would be taken for one by every reader of the record.
        if any((old.id, old.arm, old.metric) == (id, arm, metric) for old in self.criteria):
            raise ValueError(
                f"criterion {new.name} was checked before; give it another arm or metric, "
                "or make a new Evidence in the cell that checks"
            )
        self.criteria.append(new)
        return new.met

    def verdict(self) -> Verdict:
        """PROCEED, DEBUG, ABANDON or INCONCLUSIVE, by the rule of `decide`."""
        return decide(self.criteria)

    def reason(self) -> str:
        """One sentence: which criteria decided the verdict."""
        return explain(self.criteria)

    def statuses(self) -> str:
        """A line for each criterion and one for the verdict, the same on every machine.

        There are no measured numbers in it, so that a test may compare it word for word.
        """
        lines = [f"{each.name}: {each.kind}, {each.status}" for each in self.criteria]
        return "\n".join([*lines, f"verdict: {self.verdict()}"])

    def record(self) -> dict[str, Any]:
        """The record of the run as plain JSON values.

        `runtime_s` counts from the import of this module, which in a headless run is the run.
        Everything else is the same when the notebook is run again on the same machine.
        """
        return {
            "schema": SCHEMA,
            "experiment": self.experiment,
            "title": self.title,
            "verdict": str(self.verdict()),
            "runtime_s": round(time.perf_counter() - _STARTED, 1),
            "seeds": list(self.seeds),
            "parameters": _plain(self.parameters, "parameters"),
            "environment": environment(),
            "reported": dict(self.reported),
            "criteria": [each.record() for each in self.criteria],
        }

    def __str__(self) -> str:
        """The table as text."""
        return as_text(self.record())

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        """What a notebook shows: the record for machines, a table for people."""
        record = self.record()
        return {MIME: record, "text/html": as_html(record), "text/plain": as_text(record)}


def reproducible(record: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a record that a second run on the same machine must repeat."""
    return {name: value for name, value in record.items() if name != "runtime_s"}


def same(record_a: Mapping[str, Any], record_b: Mapping[str, Any]) -> bool:
    """Whether two records agree in everything but the time they took."""
    return reproducible(record_a) == reproducible(record_b)


def validate(record: object) -> list[Criterion]:
    """The criteria of a record read from a file, which is whole and does not contradict itself.

    Raises:
        ValueError: a field is missing or not of its type, the schema is another one, or a stored
            `met` or `verdict` is not what its values say.
    """
    if not isinstance(record, dict):
        raise ValueError(f"the record is of type {type(record).__name__}, not an object")
    _check_schema(record.get("schema"))
    for name, kind in _FIELDS.items():
        _check_type(record.get(name), kind, f"{name} of the record")
    for seed in record["seeds"]:
        _check_type(seed, int, "a seed of the record")
    criteria = [_read_criterion(stored) for stored in record["criteria"]]
    _check_numbers(record)
    _check_consistent(record, criteria)
    return criteria


def environment() -> dict[str, Any]:
    """What the numbers may depend on beside the seeds; null where unknown or not installed."""
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in ("torch", "numpy", "numba")},
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        **_torch_state(),
        "commit": commit(),
    }


def commit(root: str | os.PathLike[str] = Path(__file__).parents[1]) -> str | None:
    """The git commit of the code, 12 hex digits.

    Args:
        root: the top folder of the checkout.

    Returns:
        The commit, with "+changes" appended if anything in `CODE` differs from it, untracked files
        included; None outside a checkout, before its first commit, or without git.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    # A package installed below somebody else's checkout is not part of it.
    if top is None or Path(top).resolve() != Path(root).resolve():
        return None
    head = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=normal", "--", *CODE)
    if head is None or changes is None:
        return None
    return head[:12] + ("+changes" if changes else "")


def as_text(record: Mapping[str, Any]) -> str:
    """A record as an aligned table, with its verdict and the reason."""
    criteria = _criteria(record)
    table = _align([COLUMNS, *(each.row() for each in criteria)])
    head = f"{record['experiment']} {record['title']}"
    return "\n".join([head, "", table, "", *_reported_line(record), verdict_line(criteria)])


def as_html(record: Mapping[str, Any]) -> str:
    """A record as an HTML table that reads well on light and on dark ground."""
    criteria = _criteria(record)
    head = "".join(_html_cell("th", column) for column in COLUMNS)
    body = "".join(_html_row(each) for each in criteria)
    lines = [*_reported_line(record), verdict_line(criteria)]
    return (
        f"<p><b>{html.escape(record['experiment'])} {html.escape(record['title'])}</b></p>"
        f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>" + "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    )


def verdict_line(criteria: Sequence[Criterion]) -> str:
    """The verdict and the sentence that gives its reason."""
    return f"{decide(criteria)}: {explain(criteria)}"


def shown(number: float | None, digits: int | None = 4) -> str:
    """A finite number for people, whole ones below a million in full.

    Args:
        number: None is shown as "not finite".
        digits: significant digits; as many as tell it from every other float if None.
    """
    if number is None:
        return "not finite"
    if number == int(number) and abs(number) < 1e6:
        return str(int(number))
    text = repr(number) if digits is None else f"{number:.{digits}g}"
    # 1e-06 is how C writes it; people write 1e-6.
    return re.sub(r"e([+-])0", r"e\1", text).replace("e+", "e")


# --- the rule ------------------------------------------------------------------------------------


def _judge(criteria: Iterable[Criterion]) -> tuple[Verdict, str]:
    judged = [each for each in criteria if each.decides]
    successes = [each for each in judged if each.kind == "success"]
    killed = [each for each in judged if each.kind == "kill" and each.met]
    unknown = [each for each in judged if each.value is None]
    against = [each for each in judged if not each.as_wanted]
    if killed:
        return Verdict.ABANDON, _sentence(killed)
    if unknown:
        return Verdict.INCONCLUSIVE, _sentence(unknown)
    if not successes:
        return Verdict.INCONCLUSIVE, "no success criterion was checked."
    if against:
        return Verdict.DEBUG, _sentence(against)
    ids = ", ".join(dict.fromkeys(each.id for each in successes))
    return Verdict.PROCEED, f"every success criterion is met ({ids}) and no failure or kill is."


def _sentence(criteria: Sequence[Criterion]) -> str:
    return (
        "; ".join(f"{each.kind} criterion {each.name} is {each.status}" for each in criteria) + "."
    )


# --- checks of what comes in ---------------------------------------------------------------------


def _check_text(text: object, what: str, *, empty: bool = False) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{what} must be text, got {text!r} of type {type(text).__name__}")
    if not text.strip() and not empty:
        raise ValueError(f"{what} is empty; name it")


def _check_choice(name: str, valid: Sequence[str], what: str) -> None:
    if name not in valid:
        nearest = _MEANT.get(name) or get_close_matches(name, valid, n=1, cutoff=0)[0]
        choices = ", ".join(valid)
        raise ValueError(f"{what} is {name!r}; did you mean {nearest!r}? It is one of {choices}")


def _check_arm(arm: str, what: str) -> None:
    # A misspelt "reported" would decide the verdict, and nobody would see why.
    if arm != "reported" and get_close_matches(arm.strip().lower(), ["reported"], cutoff=0.85):
        raise ValueError(f"{what} is {arm!r}; did you mean 'reported'?")


def _number(value: object, what: str) -> float | None:
    """`value` as a float, or None if it is None or not finite."""
    value = _item(value, what)
    if value is None:
        return None
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{what} must be a number, got {value!r} of type {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _item(value: object, what: str) -> object:
    """The one element of a tensor, array or series; anything else as it is."""
    if not callable(item := getattr(value, "item", None)):
        return value
    try:
        return item()
    except (RuntimeError, ValueError) as error:
        shape = tuple(getattr(value, "shape", ()))
        raise TypeError(f"{what} has shape {shape}; reduce it to one number") from error


def _finite(value: object, what: str) -> float:
    number = _number(value, what)
    if number is None:
        raise ValueError(f"{what} must be a finite number, got {value!r}")
    return number


def _spread(spread: object, what: str) -> float | None:
    number = _number(spread, what)
    if number is not None and number < 0:
        raise ValueError(f"{what} is {number}; it is a distance, at least 0")
    return number


def _threshold(threshold: object, op: str, what: str) -> Threshold:
    if op != "in":
        return _finite(threshold, what)
    if not isinstance(threshold, Sequence) or isinstance(threshold, str) or len(threshold) != 2:
        raise ValueError(f"{what} must be an interval (low, high) for 'in', got {threshold!r}")
    low, high = (_finite(end, what) for end in threshold)
    if low > high:
        raise ValueError(f"{what} is reversed: ({low}, {high}); write ({high}, {low})")
    return low, high


def _reported(reported: Mapping[str, object]) -> dict[str, float | None]:
    if not isinstance(reported, Mapping):
        raise TypeError(f"reported must map names to numbers, got a {type(reported).__name__}")
    return {str(name): _number(value, f"reported {name!r}") for name, value in reported.items()}


def _parameters(parameters: object) -> dict[str, Any]:
    if parameters is None:
        return {}
    if dataclasses.is_dataclass(parameters) and not isinstance(parameters, type):
        parameters = {
            field.name: getattr(parameters, field.name) for field in dataclasses.fields(parameters)
        }
    if not isinstance(parameters, Mapping):
        kind = type(parameters).__name__
        raise TypeError(f"parameters must be a dataclass instance or a mapping, got a {kind}")
    return _plain(parameters, "parameters")


def _plain(value: object, name: str) -> Any:
    """A copy of `value` made of what JSON can hold; floats that are not finite become None."""
    value = _item(value, name)
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(each, f"{name}.{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, f"{name}[{index}]") for index, each in enumerate(value)]
    kind = type(value).__name__
    raise TypeError(f"{name} is a {kind}; the record holds numbers, text, lists and mappings only")


# --- reading a record back -----------------------------------------------------------------------

_FIELDS: dict[str, type] = {
    "experiment": str,
    "title": str,
    "verdict": str,
    "seeds": list,
    "parameters": dict,
    "environment": dict,
    "reported": dict,
    "criteria": list,
}
_CRITERION = {field.name for field in dataclasses.fields(Criterion)}


def _check_type(value: object, kind: type, what: str) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{what} is of type {type(value).__name__}, not {kind.__name__}")


def _check_schema(schema: object) -> None:
    _check_type(schema, int, "schema of the record")
    if isinstance(schema, int) and schema > SCHEMA:
        raise ValueError(f"schema {schema} is newer than this workspace reads ({SCHEMA})")
    if schema != SCHEMA:
        raise ValueError(f"schema {schema} is not one this workspace reads ({SCHEMA})")


def _check_numbers(record: Mapping[str, Any]) -> None:
    try:
        _finite(record.get("runtime_s"), "runtime_s of the record")
        for name, value in record["reported"].items():
            if value is not None:
                _finite(value, f"reported {name!r}")
    except TypeError as error:
        raise ValueError(str(error)) from error


def _read_criterion(stored: object) -> Criterion:
    if not isinstance(stored, dict):
        raise ValueError(f"a criterion of the record is of type {type(stored).__name__}, not dict")
    fields = dict(stored)
    met = fields.pop("met", None)
    if fields.keys() != _CRITERION:
        odd = ", ".join(sorted(fields.keys() ^ _CRITERION))
        raise ValueError(f"a criterion of the record has fields missing or unknown: {odd}")
    try:
        read = criterion(**fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a criterion of the record cannot be read: {error}") from error
    if met is not read.met:
        raise ValueError(f"the record is inconsistent: criterion {read.name} says met is {met!r}")
    return read


def _check_consistent(record: Mapping[str, Any], criteria: Sequence[Criterion]) -> None:
    stored, verdict = record["verdict"], decide(criteria)
    if stored != verdict:
        raise ValueError(
            f"the record is inconsistent: its verdict is {stored!r}, its criteria say {verdict}"
        )


def _criteria(record: Mapping[str, Any]) -> list[Criterion]:
    return [_read_criterion(stored) for stored in record["criteria"]]


# --- tables --------------------------------------------------------------------------------------


def _shown_value(each: Criterion) -> str:
    """Value and spread; with as many digits as it takes not to contradict the status.

    0.98996 misses ">= 0.99", and four digits would show 0.99.
    """
    texts = [shown(each.value, digits) for digits in (4, 6, 9, None)]
    honest = (text for text in texts if each.value is None or _agrees(text, each))
    value = next(honest, texts[-1])
    return value if each.spread is None else f"{value} ± {shown(each.spread, 2)}"


def _agrees(text: str, each: Criterion) -> bool:
    return holds(float(text), each.op, each.threshold) == each.met


def _shown_limit(op: str, threshold: Threshold) -> str:
    """The comparison as it was written, in full."""
    if isinstance(threshold, tuple):
        return f"{op} [{', '.join(shown(end, digits=None) for end in threshold)}]"
    return f"{op} {shown(threshold, digits=None)}"


def _reported_line(record: Mapping[str, Any]) -> list[str]:
    reported = [f"{name} {shown(value)}" for name, value in record["reported"].items()]
    return [f"Reported before: {', '.join(reported)}."] if reported else []


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def _html_cell(tag: str, text: str, colour: str = "") -> str:
    style = "text-align:left;padding:2px 8px" + (f";color:{colour}" if colour else "")
    return f'<{tag} style="{style}">{html.escape(text)}</{tag}>'


def _html_row(each: Criterion) -> str:
    # Mid-tones, legible on white and on black; the words carry the meaning, the colour only helps.
    colour = "" if not each.decides else "#2e9d4d" if each.as_wanted else "#d64545"
    *cells, status = each.row()
    row = "".join(_html_cell("td", text) for text in cells) + _html_cell("td", status, colour)
    return f'<tr style="border-top:1px solid #8886">{row}</tr>'


# --- the machine ---------------------------------------------------------------------------------


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch_state() -> dict[str, Any]:
    """Threads and accelerator in use by this process, as far as torch was needed at all."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {"torch_threads": None, "accelerator": None}
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_initialized() else None
    return {"torch_threads": torch.get_num_threads(), "accelerator": accelerator}


def _git(root: str | os.PathLike[str], *arguments: str) -> str | None:
    """What git prints about the checkout at `root`, or None if it fails."""
    # Inside a hook git points these at the checkout of the hook, whatever folder is asked for.
    hook = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}
    outside = {name: value for name, value in os.environ.items() if name not in hook}
    command = ["git", "--no-optional-locks", "-C", os.fspath(root), *arguments]
    try:
        done = subprocess.run(command, env=outside, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
