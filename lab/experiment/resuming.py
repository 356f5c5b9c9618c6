"""Where the arms of a killed run are kept until it is done: one file an arm, one folder a run."""

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
    """The folder of a run: of one experiment with one set of parameters.

    It lies in `checkpoints/` of the checkout, which git ignores, or where the environment variable
    LAB_CHECKPOINTS says: on a cluster, in a folder that all machines see.
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
    """The checkpoint of one arm, named after it and all that makes it what it is.

    An arm whose code or settings have changed has another file, and begins afresh.

    Args:
        run: the folder of the run.
        name: of the arm.
        arm: an `Arm`, or the function that builds its models.
        recipe: what it shares with the others.
        seeds: of the models.
        wanted: if None, what `Experiment.train` says of it.

    Raises:
        ValueError: something in the arm cannot be told from another one of its kind, which is
            named; give it a `checkpoint_identity`, or train without checkpoints.
    """
    if not (not live() if wanted is None else wanted):
        return None
    made_of = vars(arm) if hasattr(arm, "settings") else {"build": arm}
    identity = describe({"arm": made_of, "recipe": dict(recipe), "seeds": list(seeds)}, name)
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "arm"
    return run / f"{words}-{_digest(identity)}.safetensors"


def clear(run: Path) -> None:
    """Forget a run that is done."""
    shutil.rmtree(run, ignore_errors=True)


def _digest(identity: Any) -> str:
    return hashlib.sha256(canonical(identity).encode()).hexdigest()[:12]
