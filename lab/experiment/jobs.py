"""Work in processes of their own, one torch thread each, with one progress bar for all of it."""

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
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

_EVERY = 0.3  # seconds between two looks at how far the jobs are


@dataclass(frozen=True)
class Job(Generic[T]):
    """Work that another process can do.

    Attributes:
        call: does it. A copy of it travels, with what it refers to, functions and classes of the
            notebook included; only what it returns comes back, and not what it changes.
        steps: how many steps it has, 0 for work that does not say; the longest begin first.
        models: how many models are trained by it, for the progress bar.
    """

    call: Callable[[], T]
    steps: int = 0
    models: int = 0


class JobError(RuntimeError):
    """A job could not be done; the message is one sentence, and the cause is chained."""


def run(jobs: Mapping[str, Job[T]], *, label: str, workers: int | None = None) -> dict[str, T]:
    """Do all jobs and return what they returned, in the order given.

    A job sees one torch thread wherever it runs, and nothing of the others: the results are those
    of one job after another. They run on a Ray cluster where LAB_CLUSTER names one, see
    `lab.experiment.cluster`; inside `joblib.parallel_config(backend=..., n_jobs=...)` on that
    backend; else in processes of this machine, which stay for the next call.

    Args:
        jobs: by name.
        label: of the progress bar.
        workers: processes of this machine, 1 for this one alone. If None: the cluster, or what the
            environment variable LAB_WORKERS says, or one for each processor.

    Raises:
        ValueError: workers is no whole number of at least 1.
        ClusterError: the cluster that was asked for cannot do the work.
        Exception: what the first job to fail raised, with a note that names the job.
    """
    order = sorted(jobs, key=lambda name: -jobs[name].steps)
    with tempfile.TemporaryDirectory(prefix="lab-jobs-") as folder:  # private: mode 0700
        reports = {name: Path(folder, str(i)) for i, name in enumerate(order)}
        # As bytes even where there is no other process: what a job changes is lost in all cases.
        calls = {
            name: (name, cloudpickle.dumps(jobs[name].call), reports[name], code())
            for name in order
        }
        with _one_bar(jobs, label, Path(folder)):
            if workers is None and cluster.address() is not None:
                done = _elsewhere(calls, jobs)
            else:
                count = min(_workers(workers), max(len(jobs), 1))
                each = [delayed(_alone)(*call) for call in calls.values()]
                done = dict(Parallel(n_jobs=count, batch_size=1, pre_dispatch="all")(each))
    return {name: done[name] for name in jobs}


@cache
def code() -> str:
    """A digest of all code in `lab`, as it lay on disk when this process first asked."""
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


def _workers(wanted: int | None) -> int:
    """How many processes, as `run` says."""
    if wanted is not None:
        return whole("train", "workers", wanted, least=1)
    _, configured = get_active_backend()  # 1 or None outside `parallel_config`
    if configured and configured > 1:
        return int(configured)
    given = os.environ.get("LAB_WORKERS")
    if given is None:
        return os.cpu_count() or 1
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"LAB_WORKERS is {given!r}; it must be a whole number of at least 1")
    return int(given)


def _alone(name: str, call: bytes, report: Path, expected: str) -> tuple[str, Any]:
    """One job, on one torch thread, saying in a file how far it is."""
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
    """Writes how many steps are done, and the latest loss, where the bar looks for them."""
    written_at = 0.0

    def write(done: int, loss: Callable[[], float | None]) -> None:
        nonlocal written_at
        now = time.perf_counter()
        # On another machine of a cluster there is no such folder, and nobody who looks.
        if now - written_at >= _EVERY and report.parent.is_dir():
            written_at, latest = now, loss()
            report.write_text(f"{done} {'' if latest is None else latest}")

    return write


@contextmanager
def _one_bar(jobs: Mapping[str, Job[T]], label: str, folder: Path) -> Iterator[None]:
    """A progress bar over the steps of all jobs, moved by a thread that reads their files."""
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
            shown.advance(steps - shown.done)
        finally:
            over.set()
            thread.join()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it is being written
        return ""
