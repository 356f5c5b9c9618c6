"""What speaks against an experiment's finding, for whoever looks at a new run of it."""

import os
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "executed"


def sentences(experiment: str, folder: str | os.PathLike[str] = FOLDER) -> list[str]:
    """The doubts about a finding, a sentence each, as they stand in the folder's doubts.yaml.

    Doubts about the committed run (`about: run`) say nothing about another run and are left out.
    A file that cannot be used becomes a sentence: it must not stop a run that took minutes.
    """
    if not Path(folder, "doubts.yaml").exists():
        return []
    try:
        # Imported here, because it needs pyyaml, and only notebooks come this way.
        from lab import doubts

        found = doubts.read(folder).get(experiment, ())
    except (ImportError, OSError, ValueError):
        return ["doubts.yaml cannot be used: python -m lab.research_log --write executed says why."]
    return [str(doubt) for doubt in found if doubt.about == "finding"]
