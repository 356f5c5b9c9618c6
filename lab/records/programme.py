"""Run every notebook whose result is out of date, or one notebook over a grid of parameters.

    python -m lab.records.programme                    every notebook with a parameters file
    python -m lab.records.programme 004 013            only these two
    python -m lab.records.programme 013 --over steps 100 200 --over lr 0.01 0.03
    python -m lab.records.programme --list             print what would run, and why

A result is up to date if the code, the parameters and the package versions are unchanged since.
A notebook that fails is kept as far as it got, and the others still run. The exit status is then 1.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lab import plain_yaml
from lab.evidence.doubts import DoubtError
from lab.files import PROJECT
from lab.records import executed, made_of, stale
from lab.records.log.writing import write

_INJECTED = "PAPERMILL_"  # how the parameters begin that papermill adds by itself


class ProgrammeError(ValueError):
    """The arguments make no sense; the message is one sentence."""


@dataclass(frozen=True)
class Run:
    """One notebook with its parameters.

    Attributes:
        name: name in messages: its number, and the values of a grid.
        notebook: the .py file.
        file: the parameters file.
        result: path of the executed notebook.
        given: values that replace those in the file.
    """

    name: str
    notebook: Path
    file: Path
    result: Path
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters that are injected.

        Raises:
            OSError: the file cannot be read.
            PlainError: it is not plain YAML.
        """
        text = self.file.read_text(encoding="utf-8")
        return {**plain_yaml.load_map(text, str(self.file)), **self.given}


def runs(root: Path, numbers: Sequence[str] = ()) -> list[Run]:
    """The notebooks of a checkout with a parameters file; those that read results come last.

    Args:
        root: the top folder of the checkout.
        numbers: numbers of the notebooks; all if empty.

    Raises:
        ProgrammeError: a number has no notebook, several notebooks, or no parameters file.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted((root / "notebooks").glob("*.py")):
        if (number := executed.number_of(path.name)) is not None:
            found.setdefault(number, []).append(path)
    if unknown := [number for number in numbers if number not in found]:
        raise ProgrammeError(f"there is no notebook {unknown[0]}: there are {', '.join(found)}")
    chosen = {number: found[number] for number in numbers or found}
    for number, paths in chosen.items():
        if len(paths) > 1:
            raise ProgrammeError(f"several notebooks are {number}: {', '.join(map(str, paths))}")
        if numbers and not (root / "params" / f"{number}.yaml").is_file():
            raise ProgrammeError(f"there is no params/{number}.yaml")
    listed = [
        Run(number, path, root / "params" / f"{number}.yaml", root / "executed" / f"{number}.ipynb")
        for number, (path,) in chosen.items()
        if (root / "params" / f"{number}.yaml").is_file()
    ]
    return sorted(listed, key=lambda each: made_of.reads_results(each.notebook))


def over(run: Run, grid: Mapping[str, Sequence[str]], folder: Path) -> list[Run]:
    """One run per combination of the values of a grid.

    Args:
        run: the notebook, with the parameters that do not vary.
        grid: values as YAML text, by the name of the parameter.
        folder: folder of the results, which are named after number and values.

    Raises:
        PlainError: a value is not plain YAML.
        ProgrammeError: a value occurs twice.
    """
    for name, texts in grid.items():
        if len(set(texts)) < len(texts):
            raise ProgrammeError(f"a value of {name} comes twice: {', '.join(texts)}")
    found = []
    for texts in itertools.product(*grid.values()):
        pairs = dict(zip(grid, texts, strict=True))
        given = {name: plain_yaml.load(text, f"--over {name}") for name, text in pairs.items()}
        name = " ".join([run.name, *(f"{name}={text}" for name, text in pairs.items())])
        words = [run.name, *(f"{name}={quote(text, safe='')}" for name, text in pairs.items())]
        result = folder / f"{'_'.join(words)}.ipynb"
        found.append(Run(name, run.notebook, run.file, result, given))
    return found


def reason(run: Run, root: Path = PROJECT) -> str:
    """Why a run is due, in words; empty if its result is up to date.

    An older result, which does not state what it depended on, is compared with the commit that its
    record names.

    Args:
        run: one notebook with its parameters.
        root: the top folder of the checkout with the library.

    Raises:
        OSError, PlainError: as for `Run.parameters`.
    """
    given = run.parameters
    if not run.result.exists():
        return "there is no result yet"
    entry = executed.read_notebook(run.result)
    if entry.record is None:
        return f"its result is {entry.status}"
    metadata = json.loads(run.result.read_bytes())["metadata"]
    before = metadata.get("papermill", {}).get("parameters", {})
    before = {name: v for name, v in before.items() if not name.startswith(_INJECTED)}
    if before != given:
        names = [n for n in {**before, **given} if before.get(n) != given.get(n)]
        return f"other parameters: {', '.join(names)}"
    if made_of.KEY in metadata:
        return made_of.changes(metadata[made_of.KEY], made_of.made_of(run.notebook, root))
    return _by_commit(entry, run, root)


def execute(run: Run, workers: int) -> str:
    """Run a notebook; returns what went wrong in words, or an empty text.

    Args:
        run: one notebook with its parameters.
        workers: number of notebooks that run at a time and share the processors.
    """
    run.result.parent.mkdir(parents=True, exist_ok=True)
    began = time.time()
    root = run.notebook.parents[1]
    paths = [str(path.relative_to(root)) for path in (run.notebook, run.result, run.file)]
    notebook, result, parameters = paths
    command = [sys.executable, "-m", "papermill", notebook, result, "-f", parameters]
    command += ["--no-progress-bar"]
    if run.given:
        command += ["-y", json.dumps(dict(run.given))]  # JSON of plain values is YAML
    share = max(1, (os.cpu_count() or 1) // workers)
    done = subprocess.run(
        command, cwd=root, env={"LAB_WORKERS": str(share), **os.environ},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    if done.returncode == 0:
        return ""
    # An error before the first cell leaves the notebook of the run before.
    if run.result.exists() and run.result.stat().st_mtime >= began:
        return executed.read_notebook(run.result).detail
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"papermill ended with status {done.returncode}"


def run_all(due: Sequence[Run], *, workers: int = 1) -> dict[str, str]:
    """Run notebooks and print the outcome of each; returns the failures, by name.

    Notebooks that read the results of others run after all others.

    Args:
        due: the runs.
        workers: number of notebooks at a time.
    """
    failed: dict[str, str] = {}
    count = itertools.count(1)

    def one(run: Run) -> None:
        place, began = f"({next(count)} of {len(due)})", time.perf_counter()
        _say(f"{run.name} runs {place}")
        wrong = execute(run, workers)
        seconds = f"{time.perf_counter() - began:.0f} s"
        if wrong:
            failed[run.name] = wrong
            _say(f"{run.name} failed after {seconds}: {wrong}")
        else:
            _say(f"{run.name} done in {seconds}: {executed.read_notebook(run.result).detail}")

    for late in (False, True):
        wave = [each for each in due if made_of.reads_results(each.notebook) == late]
        with ThreadPoolExecutor(workers) as pool:
            try:
                list(pool.map(one, wave))
            except BaseException:  # Ctrl-C reaches the notebooks that run by itself
                pool.shutdown(cancel_futures=True)
                raise
    return {each.name: failed[each.name] for each in due if each.name in failed}


def main(arguments: Sequence[str] | None = None, root: Path | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.records.programme", description="Run what has changed."
    )
    parser.add_argument("numbers", nargs="*", metavar="NNN", help="of notebooks; all if none")
    parser.add_argument(
        "--over", nargs="+", action="append", default=[], metavar=("NAME", "VALUE"),
        help="values of a parameter, for one notebook at all combinations",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, help="notebooks at a time")
    parser.add_argument("--list", action="store_true", help="run nothing, say what would run")
    chosen = parser.parse_args(arguments)
    if chosen.workers < 1:
        parser.error("--workers is at least 1")
    root = (root or Path.cwd()).resolve()
    try:
        return _main(root, chosen)
    except (OSError, ProgrammeError, plain_yaml.PlainError) as error:
        print(error, file=sys.stderr)
        return 1


def _main(root: Path, chosen: argparse.Namespace) -> int:
    listed = runs(root, chosen.numbers)
    if chosen.over:
        grid = _grid(chosen.over)
        if len(chosen.numbers) != 1:
            raise ProgrammeError("--over is for one notebook: give its number")
        (one,) = listed
        listed = over(one, grid, root / "executed" / "over" / one.name)
    due = []
    for run in listed:
        why = _why(run)
        _say(f"{run.name} is due: {why}" if why else f"{run.name} is up to date")
        due += [run] if why else []
    if chosen.list:
        return 0
    failed = run_all(due, workers=chosen.workers)
    if due and not chosen.over:
        _write_log(root / "executed")
    kept = len(listed) - len(due)
    _say(f"{len(due) - len(failed)} run, {kept} were up to date, {len(failed)} failed")
    for name, wrong in failed.items():
        print(f"{name}: {wrong}", file=sys.stderr)
    return int(bool(failed))


def _grid(given: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    grid = {name: values for name, *values in given}
    if len(grid) < len(given) or not all(grid.values()):
        raise ProgrammeError("--over takes a name once, and at least one value after it")
    return grid


def _why(run: Run) -> str:
    """`reason`; if the parameters file is malformed, what is wrong with it."""
    try:
        return reason(run)
    except plain_yaml.PlainError as error:
        return str(error)


def _by_commit(entry: executed.Entry, run: Run, root: Path) -> str:
    assert entry.record is not None
    environment = entry.record["environment"]
    if str(environment.get("commit")).endswith("+changes"):
        return "it ran with changes that are in no commit"
    found = stale.result(entry, run.file.parent, root)
    if found.unknown:
        return found.unknown
    versions = {name: _public(version) for name, version in made_of.versions().items()}
    before = {name: _public(str(environment.get(name) or versions[name])) for name in versions}
    now = {"code": dict.fromkeys(found.changed, ""), "versions": versions, "results": {}}
    return made_of.changes({"versions": before}, now)


def _public(version: str) -> str:
    """Without the build: a record names it, and the metadata of a package may not."""
    return version.partition("+")[0]


def _write_log(folder: Path) -> None:
    try:
        write(folder)
    except (OSError, DoubtError) as error:
        print(error, file=sys.stderr)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
