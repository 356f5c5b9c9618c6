"""Checkpoints of the arms of an unfinished run: one file per arm, one folder per run."""

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.files import PROJECT
from lab.frontend import live
from lab.train import Settings
from lab.train.identity import canonical, describe


def folder(number: str, parameters: Any) -> Path:
    """The folder of a run, that is, of one experiment with one set of parameters.

    It is in `checkpoints/` of the checkout, which git ignores, or in the folder that the
    environment variable LAB_CHECKPOINTS names. On a cluster, all machines must have access to this
    folder.
    """
    checkout = PROJECT if (PROJECT / "notebooks").is_dir() else Path.cwd()
    top = Path(os.environ.get("LAB_CHECKPOINTS") or checkout / "checkpoints").resolve()
    return top / f"{number}-{_digest(describe(parameters, 'parameters'))}"


def file(
    run: Path,
    name: str,
    arm: Any,
    recipe: Settings,
    seeds: Sequence[int],
    *,
    wanted: bool | None,
) -> Path | None:
    """The checkpoint of one arm; its name contains that of the arm and a digest of its definition.

    If the code or the settings of an arm change, it gets another file and starts from the
    beginning.

    Args:
        run: the folder of the run.
        name: name of the arm.
        arm: an `Arm`, or the function that builds its models.
        recipe: the settings that all arms share.
        seeds: seeds of the models.
        wanted: whether checkpoints are wanted, as `checkpoint` of `Experiment.train`.

    Raises:
        ValueError: an object in the arm cannot be distinguished from others of its kind; the error
            names it. Give it a `checkpoint_identity`, or train without checkpoints.
    """
    if not (not live() if wanted is None else wanted):
        return None
    made_of = vars(arm) if hasattr(arm, "settings") else {"build": arm}
    identity = describe({"arm": made_of, "recipe": dict(recipe), "seeds": list(seeds)}, name)
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "arm"
    return run / f"{words}-{_digest(identity)}.safetensors"


def clear(run: Path) -> None:
    """Remove the checkpoints of a finished run."""
    shutil.rmtree(run, ignore_errors=True)


def _digest(identity: Any) -> str:
    return hashlib.sha256(canonical(identity).encode()).hexdigest()[:12]
