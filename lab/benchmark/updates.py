"""Updates per second of the notebooks' trainings, beside those of an earlier commit.

The earlier commit is unpacked into a temporary folder. Both versions of `lab` train in processes of
their own with one torch thread each, which take turns, so that a busy moment of the machine hits
both. A third turn trains two arms of the current version at once, as `lab.experiment` does.

    python -m lab.benchmark.updates "022 rank 4" "009 GLA"
    python -m lab.benchmark.updates --keep    # all of them, added to the committed history
    python -m lab.benchmark.updates --compiled "007 OscGate"    # the current version compiled
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from lab import git
from lab.benchmark import history
from lab.benchmark.trainings import TRAININGS
from lab.files import PROJECT
from lab.progress import Progress

SCRIPT = Path(__file__).with_name("trainings.py")
Row = dict[str, Any]


class Trainer:
    """A process that trains one of `TRAININGS` with the `lab` in a folder.

    Args:
        root: the folder that holds `lab`.
        name: of the training.
        compiled: whether its losses and gradients are compiled.

    Attributes:
        parameters: of one model.
        losses: of the first updates, by model.
        warm_up: seconds until these were made, and everything compiled that is to be compiled.

    Raises:
        RuntimeError: the process ends before it has trained; the message holds its last words.
    """

    def __init__(self, root: Path, name: str, *, compiled: bool = False) -> None:
        outside = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        # -P: the folder of the script is not on the path, where its modules would hide others.
        command = [sys.executable, "-P", str(SCRIPT), name, *(["--compiled"] if compiled else [])]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by `__exit__`)
        self.process = subprocess.Popen(
            command, cwd=root, env=outside, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
        )  # fmt: skip
        try:
            ready = self._answer()
            if not Path(ready["lab"]).is_relative_to(root.resolve()):
                raise RuntimeError(f"{ready['lab']} was imported, not the lab in {root}")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.parameters: int = ready["parameters"]
        self.losses: list[list[float]] = ready["losses"]
        self.warm_up: float = ready["warm-up"]

    def begin(self, updates: int) -> None:
        """Let it make so many updates; `end` waits for them."""
        assert self.process.stdin is not None  # it is a pipe
        self.process.stdin.write(f"{updates}\n")
        self.process.stdin.flush()

    def end(self) -> tuple[float, float]:
        """The median seconds of an update, and the mean seconds of processor time."""
        found = self._answer()
        count = len(found["updates"]) + 1
        return statistics.median(found["updates"]), found["processor"] / count

    def __enter__(self) -> "Trainer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()  # it ends by itself, or is stopped
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            words = self.log.read().strip().splitlines()
            last = words[-1] if words else f"exit status {self.process.returncode}"
            raise RuntimeError(f"a training in {self.process.args!r} has ended: {last}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def reference(root: Path = PROJECT) -> str:
    """The last commit before `lab.experiment` existed.

    Raises:
        ValueError: the checkout has no such history.
    """
    listed = git.output(
        root, "log", "--format=%H", "--diff-filter=A", "--", "lab/experiment/__init__.py"
    )
    first = (listed or "").split()[-1:]
    found = git.output(root, "rev-parse", "--verify", "--quiet", f"{first[0]}^") if first else None
    if not found:
        raise ValueError(f"{root} has no commit from before lab.experiment: name one to compare to")
    return found.strip()


@contextmanager
def unpacked(commit: str, root: Path = PROJECT) -> Iterator[Path]:
    """A temporary folder with the `lab` of a commit.

    Raises:
        ValueError: there is no such commit.
    """
    command = ["git", "-C", str(root), "archive", commit, "lab"]
    packed = subprocess.run(command, capture_output=True)
    if packed.returncode:
        raise ValueError(f"{commit!r} is no commit of {root} that has a folder lab")
    with tempfile.TemporaryDirectory(prefix="lab-reference-") as folder:
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


def measure(
    names: Sequence[str] = tuple(TRAININGS),
    *,
    commit: str | None = None,
    rounds: int = 5,
    updates: int = 20,
    compiled: bool = False,
) -> list[Row]:
    """Train each of `names` with both versions in turns, and compare their updates per second.

    Args:
        names: keys of `TRAININGS`.
        commit: of the earlier version; that of `reference` if None.
        rounds: turns of each version; medians are over rounds.
        updates: updates of a turn.
        compiled: whether the current version compiles losses and gradients (see
            `lab.train.traced`).

    Returns:
        A row for each name: training; parameters of a model; updates per second of the earlier
        version ("earlier"), of the current one ("now") and of two arms at once ("two processes",
        both together); milliseconds of processor time per update, earlier and now; medians and
        quartiles of the ratios of a round, "now / earlier" (the gain of kernels and of the loop),
        "two / one" (the gain of a second process) and "all" (two processes / earlier); and "gap",
        the largest relative difference between the losses of the first updates, which are eager. If
        compiled, also "compiled", which is True, and "warm-up, s", the seconds of the first updates
        and of compiling.

    Raises:
        ValueError: a name is unknown, a number too small, or there is no such commit; or the two
            versions build models of different size.
        RuntimeError: a training fails.
    """
    unknown = [name for name in names if name not in TRAININGS]
    if unknown:
        raise ValueError(f"there are no trainings {unknown}; there are {list(TRAININGS)}")
    if rounds < 1 or updates < 2:
        raise ValueError(f"rounds is {rounds} and updates {updates}; least are 1 and 2")
    with (
        unpacked(commit or reference()) as earlier,
        Progress("updates per second", rounds * len(names), unit="rounds") as shown,
    ):
        return [_compare(name, earlier, rounds, updates, compiled, shown) for name in names]


def _compare(
    name: str, earlier: Path, rounds: int, updates: int, compiled: bool, shown: Progress
) -> Row:
    with ExitStack() as stack:
        old = stack.enter_context(Trainer(earlier, name))
        new, other = (
            stack.enter_context(Trainer(PROJECT, name, compiled=compiled)) for _ in range(2)
        )
        if old.parameters != new.parameters:
            sizes = f"{old.parameters} parameters earlier and {new.parameters} now"
            raise ValueError(f"{name}: {sizes}, so that the two train different models")
        found = []
        for turn in range(rounds):
            turns = {"earlier": [old], "now": [new], "two processes": [new, other]}
            order = sorted(turns, reverse=bool(turn % 2))
            found.append({each: _turn(turns[each], updates) for each in order})
            shown.advance()
        gap = _gap(old.losses, new.losses)
        how = {"compiled": True, "warm-up, s": new.warm_up} if compiled else {}
    return {"training": name, "parameters": new.parameters, **_summary(found), "gap": gap, **how}


def _turn(trainers: Sequence[Trainer], updates: int) -> tuple[float, float]:
    """Updates per second of all together, and mean seconds of processor time per update."""
    for each in trainers:
        each.begin(updates)
    ends = [each.end() for each in trainers]
    used = statistics.mean(processor for _, processor in ends)
    return sum(1 / seconds for seconds, _ in ends), used


def _summary(found: Sequence[Mapping[str, tuple[float, float]]]) -> Row:
    row: Row = {
        name: statistics.median(turn[name][0] for turn in found)
        for name in ("earlier", "now", "two processes")
    }
    for name in ("earlier", "now"):
        row[f"{name}, ms"] = 1e3 * statistics.median(turn[name][1] for turn in found)
    ratios = {
        "now / earlier": ("now", "earlier"),
        "two / one": ("two processes", "now"),
        "all": ("two processes", "earlier"),
    }
    for name, (above, below) in ratios.items():
        each = [turn[above][0] / turn[below][0] for turn in found]
        row[name] = statistics.median(each)
        low, _, high = statistics.quantiles(each, method="inclusive") if each[1:] else each * 3
        row[f"{name}, quartiles"] = (low, high)
    return row


def _gap(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> float:
    """The largest relative difference of losses."""
    pairs = [
        (a, b)
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    return max(abs(a - b) / abs(a) for a, b in pairs)


def text(row: Row) -> str:
    """A row in one line."""
    rates = "  ".join(f"{row[name]:5.1f}" for name in ("earlier", "now", "two processes"))
    gains = "  ".join(
        f"{name} {row[name]:.2f} [{row[f'{name}, quartiles'][0]:.2f}, "
        f"{row[f'{name}, quartiles'][1]:.2f}]"
        for name in ("now / earlier", "two / one", "all")
    )
    used = f"{row['earlier, ms']:.1f} → {row['now, ms']:.1f} ms"
    how = f"  compiled, warm-up {row['warm-up, s']:.0f} s" if row.get("compiled") else ""
    return f"{row['training']:14}  {rates} a second  {gains}  {used}  gap {row['gap']:.0e}{how}"


def main() -> None:
    """Print a line for every training that is named, or for all; exit status 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trainings", nargs="*", help=", ".join(TRAININGS))
    parser.add_argument("--commit", help="of the earlier version")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--keep", action="store_true", help=f"add the rows to {history.FILE.name}")
    parser.add_argument("--compiled", action="store_true", help="compile the current version")
    given = parser.parse_args()
    names, failed = given.trainings or list(TRAININGS), False
    for name in names:
        try:
            (row,) = measure(
                [name], commit=given.commit, rounds=given.rounds, updates=given.updates,
                compiled=given.compiled,
            )  # fmt: skip
        except RuntimeError as error:  # such as of a training that cannot be compiled
            failed = True
            print(f"{name:14}  not measured: {error}", flush=True)
            continue
        print(text(row), flush=True)
        if given.keep:
            run = {"rounds": given.rounds, "updates": given.updates}
            history.keep(row | run | history.origin(given.commit or reference()))
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
