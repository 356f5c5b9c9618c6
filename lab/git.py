"""Read-only git queries about a checkout."""

import os
import subprocess


def output(root: str | os.PathLike[str], *arguments: str, text: str = "") -> str | None:
    """The output of a git command in the checkout at `root`; None if git fails or is missing.

    Args:
        root: a folder of the checkout.
        arguments: command line of git, without the word git.
        text: standard input of git.
    """
    # Inside a hook, git sets these variables to the checkout of the hook, whatever `root` is.
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
