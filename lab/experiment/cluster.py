"""Jobs on the machines of a Ray cluster, where the environment variable LAB_CLUSTER names one.

They are Ray's own tasks. Ray's backend of joblib keeps a single job on this machine, deals jobs to
workers before it knows who will be free, waits for ever where GPUs are fewer than workers, and
fails with a worker that is killed unless it is told of `max_restarts` and `max_task_retries`.
Inside `joblib.parallel_config(backend="ray")` jobs run on it all the same.
"""

import logging
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import cloudpickle

T = TypeVar("T")
Call = tuple[Callable[..., T], tuple[Any, ...]]  # a function of lab, and its arguments

RETRIES = 3  # times that a job begins again after its worker or machine was lost


class ClusterError(RuntimeError):
    """The cluster cannot do the work; the message is one sentence."""


class RemoteError(Exception):
    """The traceback of a worker, as text: the cause of the exception that it belongs to."""


def address() -> str | None:
    """Where the head of the cluster is, "auto" for one on this machine; None if none is asked for.

    The environment variable LAB_CLUSTER says so.
    """
    return os.environ.get("LAB_CLUSTER") or None


def run(calls: Sequence[Call[T]], *, names: Sequence[str]) -> Iterator[tuple[str, T]]:
    """Do all calls on the cluster, and give name and result of each as soon as it is done.

    Each has a processor of its own, and as many GPUs as LAB_CLUSTER_GPUS says, 0 if unset. A call
    whose worker was killed, or whose machine was lost, is made again, at most `RETRIES` times;
    where its training has a checkpoint that all machines see, it goes on from there.

    Args:
        calls: the first begin first.
        names: of the calls, for messages.

    Raises:
        ClusterError: Ray is not installed, there is no cluster, it has not what a call needs, or
            workers were lost again and again.
        ValueError: LAB_CLUSTER_GPUS is no number of at least 0.
        Exception: what the first call to fail raised.
    """
    ray, gpus = _connected(), _gpus()
    _require_gpus(ray, gpus)
    remote = ray.remote(_done).options(
        num_cpus=1, num_gpus=gpus, max_retries=RETRIES, scheduling_strategy="SPREAD"
    )
    packed = [cloudpickle.dumps(call) for call in calls]
    waiting = {remote.remote(each): name for each, name in zip(packed, names, strict=True)}
    try:
        while waiting:
            (ready,), _ = ray.wait(list(waiting), num_returns=1)
            name = waiting.pop(ready)
            yield name, _result(ray, ready, name)
    finally:
        for each in waiting:
            ray.cancel(each, force=True)


def _connected() -> Any:
    """Ray, connected to the cluster."""
    try:
        import ray
    except ImportError:
        raise ClusterError(
            "LAB_CLUSTER is set and Ray is not installed: pip install -c constraints.txt "
            "-e '.[cluster]'"
        ) from None
    if not ray.is_initialized():
        try:
            ray.init(address=address(), log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ClusterError(
                f"there is no Ray cluster at LAB_CLUSTER={address()} ({error}): start one with "
                "ray start --head"
            ) from None
    return ray


def _gpus() -> float:
    given = os.environ.get("LAB_CLUSTER_GPUS", "0")
    try:
        found = float(given)
    except ValueError:
        found = -1.0
    if not 0 <= found < float("inf"):
        raise ValueError(f"LAB_CLUSTER_GPUS is {given!r}; it must be a number of at least 0")
    return found


def _require_gpus(ray: Any, gpus: float) -> None:
    """Stop where a job would wait for ever."""
    if gpus and max(n["Resources"].get("GPU", 0) for n in ray.nodes() if n["Alive"]) < gpus:
        raise ClusterError(
            f"LAB_CLUSTER_GPUS is {gpus:g}, and no machine of the cluster has as many: start its "
            "worker with ray start --num-gpus, where a CUDA build of torch is installed"
        )


def _done(packed: bytes) -> bytes:
    """On a worker: whether a call was done, and its result, or what it raised.

    As bytes, so that nothing of it is shared with other processes and read-only.
    """
    try:
        function, arguments = cloudpickle.loads(packed)
        return cloudpickle.dumps((True, function(*arguments)))
    except Exception as error:
        return cloudpickle.dumps((False, (error, traceback.format_exc())))


def _result(ray: Any, ready: Any, name: str) -> Any:
    """What a call returned.

    Raises:
        ClusterError: its workers were lost.
        Exception: what it raised.
    """
    try:
        is_done, found = cloudpickle.loads(ray.get(ready))
    except ray.exceptions.RayError as error:
        # `_done` raises nothing itself, unless its process cannot load what it is told to call.
        lost = not isinstance(error, ray.exceptions.RayTaskError)
        what = f"was lost {RETRIES + 1} times with its worker" if lost else "could not be begun"
        line = str(error).strip().splitlines()[0 if lost else -1]
        raise ClusterError(f"{name!r} {what}: {line}") from error
    if not is_done:
        raised, text = found
        raise raised from RemoteError(text)
    return found
