"""Jobs on a Ray cluster, if the environment variable LAB_CLUSTER names one.

Jobs run as Ray tasks, not on Ray's backend for joblib. That backend runs a single job on this
machine, assigns jobs to workers before it knows which will be free, waits for ever if there are
fewer GPUs than workers, and fails if a worker is killed, unless it is given `max_restarts` and
`max_task_retries`. It is still used inside `joblib.parallel_config(backend="ray")`.
"""

import logging
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import cloudpickle

T = TypeVar("T")
Call = tuple[Callable[..., T], tuple[Any, ...]]  # a function of lab, and its arguments

RETRIES = 3  # how often a job is restarted after its worker or machine was lost


class ClusterError(RuntimeError):
    """The cluster cannot run the jobs; the message is one sentence."""


class RemoteError(Exception):
    """The traceback of an exception on a worker, as text; it is the cause of that exception."""


def address() -> str | None:
    """Address of the head of the cluster, "auto" for this machine; None without a cluster.

    It is the value of the environment variable LAB_CLUSTER.
    """
    return os.environ.get("LAB_CLUSTER") or None


def run(calls: Sequence[Call[T]], *, names: Sequence[str]) -> Iterator[tuple[str, T]]:
    """Run all calls on the cluster, and yield the name and result of each as soon as it is done.

    Each call has one processor, and as many GPUs as LAB_CLUSTER_GPUS says (0 if unset). If its
    worker is killed or its machine is lost, it is run again, at most `RETRIES` times. If its
    training has a checkpoint in a folder that all machines share, it continues from there.

    Args:
        calls: the calls, started in this order.
        names: names of the calls, for messages.

    Raises:
        ClusterError: Ray is not installed, there is no cluster, it lacks the GPUs that a call
            needs, or the workers of a call were lost too often.
        ValueError: LAB_CLUSTER_GPUS is not a number of at least 0.
        Exception: the exception of the first call that fails.
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
    """Stop if a job would wait for ever."""
    if gpus and max(n["Resources"].get("GPU", 0) for n in ray.nodes() if n["Alive"]) < gpus:
        raise ClusterError(
            f"LAB_CLUSTER_GPUS is {gpus:g}, and no machine of the cluster has as many: start its "
            "worker with ray start --num-gpus, where a CUDA build of torch is installed"
        )


def _done(packed: bytes) -> bytes:
    """On a worker: run a call, and return whether it succeeded, with its result or exception.

    The result is serialised, because Ray would otherwise return read-only shared memory.
    """
    try:
        function, arguments = cloudpickle.loads(packed)
        return cloudpickle.dumps((True, function(*arguments)))
    except Exception as error:
        return cloudpickle.dumps((False, (error, traceback.format_exc())))


def _result(ray: Any, ready: Any, name: str) -> Any:
    """The result of a call.

    Raises:
        ClusterError: its workers were lost too often.
        Exception: the exception of the call.
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
