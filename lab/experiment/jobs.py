"""Runs jobs in separate processes, with one torch thread each and one progress bar for all."""

import hashlib
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import cloudpickle
import torch
from joblib import Parallel, delayed
from joblib.parallel import get_active_backend

from lab import progress
from lab.arguments import whole
from lab.experiment import cluster
from lab.files import PROJECT
from lab.progress import Progress, Tell

T = TypeVar("T")
Alone = tuple[str, bytes, Path, str]  # the arguments of `_alone`

_EVERY = 0.3  # seconds between two checks of the progress of the jobs
# So few steps in all take less time than a process needs to start: about 6 s of imports.
_FEW = 600


@dataclass(frozen=True)
class Job(Generic[T]):
    """Work that can run in another process.

    Attributes:
        call: the function that does the work. A copy is sent to the process, with everything it
            refers to, including functions and classes of the notebook. Only its return value comes
            back; changes that it makes to objects are lost.
        steps: number of steps, 0 if unknown; jobs with more steps start first.
        models: number of models that it trains, for the progress bar.
        short: whether it takes a second or two, less than a process needs to start.
    """

    call: Callable[[], T]
    steps: int = 0
    models: int = 0
    short: bool = False


class JobError(RuntimeError):
    """A job could not be run; the message is one sentence, and the cause is chained."""


def run(jobs: Mapping[str, Job[T]], *, label: str, workers: int | None = None) -> dict[str, T]:
    """Run all jobs and return their results, in the given order.

    A job has one torch thread wherever it runs, and cannot affect the others, so the results are
    the same as for one job after another. If LAB_CLUSTER names a Ray cluster, jobs run there; see
    `lab.experiment.cluster`. Inside `joblib.parallel_config(backend=..., n_jobs=...)` they run on
    that backend. Otherwise they run in processes on this machine, which are kept for the next call.

    Args:
        jobs: the jobs by name.
        label: label of the progress bar.
        workers: number of processes on this machine; with 1, everything runs in this process. If
            None: the cluster, or the environment variable LAB_WORKERS, or one process per
            processor; but this process alone if the jobs are short or have fewer than 600 steps.

    Raises:
        ValueError: workers is not a whole number of at least 1.
        ClusterError: the cluster cannot run the jobs.
        Exception: the exception of the first job that fails, with a note that names the job.
    """
    order = sorted(jobs, key=lambda name: -jobs[name].steps)
    with tempfile.TemporaryDirectory(prefix="lab-jobs-") as folder:  # private: mode 0700
        reports = {name: Path(folder, str(i)) for i, name in enumerate(order)}
        # Calls are serialised even without another process, so that changes by a job are always
        # lost.
        calls = {
            name: (name, cloudpickle.dumps(jobs[name].call), reports[name], code())
            for name in order
        }
        with _one_bar(jobs, label, Path(folder)):
            if workers is None and cluster.address() is not None:
                done = _elsewhere(calls, jobs)
            else:
                count = min(_workers(workers, [*jobs.values()]), max(len(jobs), 1))
                each = [delayed(_alone)(*call) for call in calls.values()]
                with warnings.catch_warnings():
                    # loky replaces a worker that keeps memory for its next job, as ours do, and
                    # warns of that though no job is lost.
                    warnings.filterwarnings("ignore", "A worker stopped while some jobs")
                    done = dict(Parallel(n_jobs=count, batch_size=1, pre_dispatch="all")(each))
    return {name: done[name] for name in jobs}


@cache
def code() -> str:
    """A digest of all code in `lab`, as it was on disk at the first call in this process."""
    found = hashlib.sha256()
    for path in sorted((PROJECT / "lab").rglob("*.py")):
        found.update(str(path.relative_to(PROJECT)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def _elsewhere(calls: Mapping[str, Alone], jobs: Mapping[str, Job[T]]) -> dict[str, T]:
    """What `_alone` returns of all calls, made on the cluster."""
    done: dict[str, T] = {}
    listed = [(_alone, call) for call in calls.values()]
    for name, (_, result) in cluster.run(listed, names=list(calls)):
        done[name] = result
        # Other machines have no such file to say it in.
        calls[name][2].write_text(f"{jobs[name].steps} ")
    return done


def _workers(wanted: int | None, jobs: Sequence[Job[T]]) -> int:
    """The number of processes, as described in `run`."""
    if wanted is not None:
        return whole("train", "workers", wanted, least=1)
    _, configured = get_active_backend()  # it is 1 or None outside `parallel_config`
    if configured and configured > 1:
        return int(configured)
    given = os.environ.get("LAB_WORKERS")
    if given is None:
        known = all(job.short or job.steps for job in jobs)
        short = known and sum(job.steps for job in jobs if not job.short) < _FEW
        return 1 if short else os.cpu_count() or 1
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"LAB_WORKERS is {given!r}; it must be a whole number of at least 1")
    return int(given)


def _alone(name: str, call: bytes, report: Path, expected: str) -> tuple[str, Any]:
    """Run one job with one torch thread; it writes its progress to a file."""
    if code() != expected:
        raise JobError(
            f"a worker has other code of lab than this notebook, so {name!r} was not begun: "
            "restart the kernel, which starts new workers"
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with progress.told(_writer(report)):
            return name, cloudpickle.loads(call)()
    except Exception as error:
        error.add_note(f"This happened in {name!r}.")
        raise
    finally:
        torch.set_num_threads(threads)


def _writer(report: Path) -> Tell:
    """A callback that writes the number of steps done and the latest loss to a file for the bar."""
    written_at = 0.0

    def write(done: int, loss: Callable[[], float | None]) -> None:
        nonlocal written_at
        now = time.perf_counter()
        # On another machine of a cluster this folder does not exist, and progress is not shown.
        if now - written_at >= _EVERY and report.parent.is_dir():
            written_at, latest = now, loss()
            report.write_text(f"{done} {'' if latest is None else latest}")

    return write


@contextmanager
def _one_bar(jobs: Mapping[str, Job[T]], label: str, folder: Path) -> Iterator[None]:
    """A progress bar over the steps of all jobs, updated by a thread that reads their files."""
    over, steps = threading.Event(), sum(job.steps for job in jobs.values())
    losses: list[float] = []

    def latest() -> float | None:
        return sum(losses) / len(losses) if losses else None

    models = sum(job.models for job in jobs.values())
    with Progress(label, steps, models=models, loss=latest) as shown:

        def look() -> None:
            texts = [_read(path) for path in folder.iterdir()]
            found = [text.split(" ") for text in texts if text]
            losses[:] = [float(loss) for _, loss in found if loss]
            shown.advance(sum(int(done) for done, _ in found) - shown.done)

        def watch() -> None:
            while not over.wait(_EVERY):
                look()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        shown.advance(steps - shown.done)  # by one thread at a time: two would count twice


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the file is being written at this moment
        return ""
