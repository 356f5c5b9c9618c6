"""Arms on a local Ray cluster: the record of local processes, and workers that are killed."""

import os
import re
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import pytest

from lab import train
from lab.evidence import reproducible
from lab.experiment import Arm, Experiment, Planned, cluster
from lab.experiment.jobs import Job, JobError, run
from lab.mixers import StateSpace
from lab.model import SequenceModel
from lab.seeding import stream
from lab.tasks import WordProblem, groups
from lab.transitions import PolarDiagonal, RealDiagonal

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[cluster]'")

ROOT = Path(__file__).parents[2]

# Workers know what a notebook has defined, and no modules of tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

Z3 = WordProblem(groups.cyclic(3), [1, 2])
RECIPE = {"steps": 6, "batch": 4, "length": 6, "lr": 1e-2, "device": "cpu"}


@dataclass(frozen=True)
class Parameters:
    seeds: list


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """The address of a cluster on this machine that has room for two jobs at a time."""
    from ray.cluster_utils import Cluster

    # Every process of Ray imports jsonschema, and that a grammar which takes seconds to build.
    shadow = tmp_path_factory.mktemp("shadow")
    (shadow / "rfc3987_syntax.py").write_text("raise ImportError('not needed here')\n")
    paths = [str(shadow), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    head = {"num_cpus": 2, "num_gpus": 0, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        found = _started(lambda: Cluster(initialize_head=True, head_node_args=head))
    try:
        yield found.address
    finally:
        ray.shutdown()
        found.shutdown()


def _started(start, tries=3):
    """Ray gives its own processes some seconds to start, which busy cores do not always leave."""
    for left in reversed(range(tries)):
        try:
            return start()
        except Exception:
            if not left:
                raise
    raise AssertionError


@pytest.fixture
def on_cluster(two_workers, monkeypatch):
    monkeypatch.setenv("LAB_CLUSTER", two_workers)


def build(kind, task, seed):
    generator = stream(seed, "init")
    transition = kind(8, d_state=4, generator=generator)
    mixer = StateSpace(8, transition, generator=generator)
    return SequenceModel(task.vocabulary, task.classes, 8, [mixer], generator=generator)


ARMS = {
    "real": lambda task, seed: build(RealDiagonal, task, seed),
    "polar": Arm(lambda task, seed: build(PolarDiagonal, task, seed), lr=2e-2),
}


def record(**settings):
    """The record of a small experiment that trains, tunes and scores."""
    criteria = [Planned("C1", "accuracy of {part}", ">", 0.5, parts=list(ARMS))]
    exp = Experiment("300", title="A title", question="A question?", criteria=criteria,
                     parameters=Parameters([100, 101]))  # fmt: skip
    tuned = exp.tune(ARMS, Z3, RECIPE, seeds=[0], score=score, lr=[1e-3, 1e-2], **settings)
    arms = exp.train(ARMS, Z3, RECIPE, tuned=tuned, checkpoint=False, **settings)
    exp.judge("C1", arms.scores(length=6, samples=50, score="accuracy", **settings))
    losses = [
        {"arm": name, "seed": seed, "loss": history.loss.tolist()}
        for name, arm in arms.items()
        for seed, history in zip(arm.seeds, arm.histories, strict=True)
    ]
    exp.table("losses", losses)
    return reproducible(exp.sheet.record())


def score(model, task, *, seed):
    return train.score(model, task, length=6, samples=20, seed=seed).accuracy


def test_the_record_is_that_of_local_processes(on_cluster):
    assert record() == record(workers=2)


def test_two_jobs_are_done_at_a_time_and_both_by_other_processes(on_cluster, tmp_path):
    def meet(own, other):
        """Wait until the other job has begun."""
        (tmp_path / own).touch()
        while not (tmp_path / other).exists():
            time.sleep(0.05)
        return os.getpid()

    found = run({"a": Job(lambda: meet("a", "b")), "b": Job(lambda: meet("b", "a"))}, label="meet")
    assert len({os.getpid(), *found.values()}) == 3


def test_a_job_whose_worker_is_killed_is_done_again(on_cluster, tmp_path):
    def killed(times):
        begun = tmp_path / str(len(list(tmp_path.iterdir())))
        begun.touch()
        if len(list(tmp_path.iterdir())) <= times:
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    found = run({"once": Job(lambda: killed(1)), "other": Job(lambda: "too")}, label="killed")
    assert found == {"once": "done", "other": "too"}
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(cluster.ClusterError, match="'lost' was lost 4 times with its worker"):
        run({"lost": Job(lambda: killed(100))}, label="killed")


def test_an_arm_whose_worker_is_killed_has_the_numbers_of_one_that_was_not(on_cluster, tmp_path):
    def kill_once(_, step):
        if step == 3 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def losses(**settings):
        exp = Experiment("300", title="A title", question="A question?",
                         criteria=[Planned("C1", "accuracy", ">", 0.5)],
                         parameters=Parameters([100, 101]))  # fmt: skip
        arms = exp.train({"a": Arm(ARMS["real"], before_update=kill_once)}, Z3, RECIPE,
                         checkpoint=False, **settings)  # fmt: skip
        return [history.loss.tolist() for history in arms["a"].histories]

    disturbed = losses()
    assert (tmp_path / "killed").exists()
    assert disturbed == losses(workers=1)


def test_what_a_job_raises_comes_back_with_its_name_and_where_it_was(on_cluster):
    def broken():
        raise ValueError("no model today")

    with pytest.raises(ValueError, match="no model today") as caught:
        run({"a": Job(broken)}, label="broken")
    assert "This happened in 'a'." in caught.value.__notes__
    assert "in broken" in str(caught.value.__cause__)


def test_a_worker_with_other_code_is_refused(on_cluster, monkeypatch):
    monkeypatch.setattr("lab.experiment.jobs.code", lambda: "other")
    with pytest.raises(JobError, match="a worker has other code of lab"):
        run({"a": Job(lambda: 1)}, label="code")


@pytest.mark.parametrize(
    ("gpus", "error", "message"),
    [
        ("1", cluster.ClusterError, "LAB_CLUSTER_GPUS is 1, and no machine of the cluster has"),
        ("many", ValueError, "LAB_CLUSTER_GPUS is 'many'; it must be a number of at least 0"),
        ("-1", ValueError, "LAB_CLUSTER_GPUS is '-1'"),
        ("nan", ValueError, "LAB_CLUSTER_GPUS is 'nan'"),
    ],
)
def test_gpus_that_there_are_not_are_refused_in_place_of_waiting(
    on_cluster, monkeypatch, gpus, error, message
):
    monkeypatch.setenv("LAB_CLUSTER_GPUS", gpus)
    with pytest.raises(error, match=re.escape(message)):
        run({"a": Job(lambda: 1)}, label="gpus")


def test_joblib_s_own_backend_has_the_same_numbers(two_workers):
    import joblib
    from ray.util.joblib import register_ray

    register_ray()
    jobs = {"a": Job(lambda: 1), "b": Job(os.getpid)}
    with joblib.parallel_config(backend="ray", n_jobs=2):
        found = run(jobs, label="joblib")
    assert found["a"] == 1
    assert found["b"] != os.getpid()


def test_one_worker_is_this_process_whatever_cluster_there_is(on_cluster):
    assert run({"a": Job(os.getpid)}, label="here", workers=1) == {"a": os.getpid()}


def nowhere(**_):
    raise ConnectionError("nobody answers")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (None, "Ray is not installed: pip install -c constraints.txt -e '.[cluster]'"),
        (
            SimpleNamespace(is_initialized=lambda: False, init=nowhere),
            "there is no Ray cluster at LAB_CLUSTER=127.0.0.1:9 (nobody answers)",
        ),
    ],
)
def test_without_ray_or_without_a_cluster_it_is_one_sentence(monkeypatch, module, message):
    monkeypatch.setenv("LAB_CLUSTER", "127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "ray", module)
    with pytest.raises(cluster.ClusterError, match=re.escape(message)):
        run({"a": Job(lambda: 1)}, label="nowhere")
