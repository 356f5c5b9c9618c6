"""What git knows of a checkout, asked without changing anything in it."""

import os
import subprocess


def output(root: str | os.PathLike[str], *arguments: str, text: str = "") -> str | None:
    """What git prints about the checkout at `root`, or None if it fails or is not there.

    Args:
        root: a folder of the checkout.
        arguments: of git, the command first.
        text: what git reads on its standard input.
    """
    # Inside a hook git points these at the checkout of the hook, whatever folder is asked for.
    hook = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}
    outside = {name: value for name, value in os.environ.items() if name not in hook}
    command = ["git", "--no-optional-locks", "-C", os.fspath(root), *arguments]
    try:
        done = subprocess.run(
            command, env=outside, input=text, capture_output=True, text=True, timeout=60
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
