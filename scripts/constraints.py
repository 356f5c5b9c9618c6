"""The exact versions in constraints.txt: resolved against the public package index, for everybody.

    python scripts/constraints.py                     # check; only metadata are downloaded
    python scripts/constraints.py --write             # resolve again, and keep what can be kept
    python scripts/constraints.py --write --upgrade   # resolve again, to the newest versions

A resolution made on one machine holds for that machine: with a local build of torch at hand, a
triton passes that no torch of the public index goes with. So uv is asked, with all settings of this
machine left out that name another source of packages, and for each Python and each system.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SYSTEMS = ("linux", "macos", "windows")
COMMAND = "python scripts/constraints.py --write"

# All that `make setup` installs, and that of which the bounds are kept: of the tools in `docs` and
# `dev` only the exact versions are used.
EXTRAS = ("--all-extras",)
BOUNDED = ("--extra", "notebooks", "--extra", "gpu")

# Exit status of uv where versions exclude each other; another one means that it could not find out.
NO_SOLUTION = 1


class UnresolvedError(Exception):
    """Requirements exclude each other, for some Python and system."""


class UnansweredError(Exception):
    """The index could not be asked, and so nothing is known."""


@dataclass(frozen=True)
class Project:
    """A checkout, and where its packages are looked for.

    Attributes:
        root: its top folder.
        source: options of uv that name a source in place of the public index; tests have one.
    """

    root: Path = ROOT
    source: Sequence[str] = ()

    @property
    def constraints(self) -> Path:
        """The file of exact versions."""
        return self.root / "constraints.txt"

    @property
    def pythons(self) -> list[str]:
        """Supported Pythons as the metadata name them, the oldest first."""
        metadata = tomllib.loads((self.root / "pyproject.toml").read_text(encoding="utf-8"))
        listed = " ".join(metadata["project"]["classifiers"])
        found = re.findall(r"Python :: (3\.\d+)", listed)
        return sorted(found, key=lambda version: int(version[2:]))

    def resolve(self, *options: str) -> str:
        """Versions of everything that pyproject.toml asks for, one a line, as uv prints them.

        Raises:
            UnresolvedError: there are no such versions.
            UnansweredError: uv could not find out.
        """
        command = [sys.executable, "-m", "uv", "--no-config", "pip", "compile", "--quiet"]
        command += ["--no-sources", "--no-python-downloads", "--python", sys.executable]
        # Nothing is built: a package has to have a wheel for the system, or a pure one.
        command += ["--only-binary", ":all:", "--no-annotate", "--no-header", "--no-progress"]
        done = subprocess.run(
            [*command, *self.source, *options, "pyproject.toml"],
            cwd=self.root, env=plain_environment(), capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise (UnresolvedError if done.returncode == NO_SOLUTION else UnansweredError)(
                done.stderr
            )
        return done.stdout


def plain_environment() -> dict[str, str]:
    """Variables of this process without those that tell uv or pip where packages are."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("UV_", "PIP_"))}
    # The oldest macOS for which torch has wheels; uv would assume an older one.
    return {**kept, "MACOSX_DEPLOYMENT_TARGET": "14.0"}


def universal(project: Project, *, keep: bool = True) -> str:
    """constraints.txt as it should be, with markers where Pythons or systems differ.

    Versions of the present file are kept as far as they go, unless `keep` is false.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "constraints.txt")
        file.write_text(project.constraints.read_text(encoding="utf-8") if keep else "")
        oldest = project.pythons[0]
        options = ("--universal", "--python-version", oldest, "--output-file", str(file))
        project.resolve(*EXTRAS, *options)
        return _header() + file.read_text(encoding="utf-8")


def faults(project: Project) -> Iterator[str]:
    """What is wrong with constraints.txt, a sentence each.

    Raises:
        UnansweredError: the index could not be asked.
    """
    for python in project.pythons:
        for system in SYSTEMS:
            yield from _faults_on(project, python, system)
    try:
        if universal(project) != project.constraints.read_text(encoding="utf-8"):
            yield f"constraints.txt is not what pyproject.toml resolves to: run {COMMAND}"
    except UnresolvedError as error:
        yield f"pyproject.toml has no resolution for all Pythons together:\n{error}"
    yield from _faults_of_the_bounds(project)


def _faults_on(project: Project, python: str, system: str) -> Iterator[str]:
    where = f"Python {python} on {system}"
    options = ("--constraints", "constraints.txt", *_on(python, system))
    try:
        found = _pins(project.resolve(*EXTRAS, *options))
    except UnresolvedError as error:
        yield f"constraints.txt cannot be installed for {where}:\n{error}"
        return
    if free := sorted(found - _pins(project.constraints.read_text(encoding="utf-8"))):
        yield f"constraints.txt leaves open, for {where}: {', '.join(free)}. Run {COMMAND}"


def _faults_of_the_bounds(project: Project) -> Iterator[str]:
    """Whether the oldest versions go together, and the newest, as `pip install .` takes them."""
    oldest = ("--resolution", "lowest-direct", *_on(project.pythons[0], "linux"))
    for options in (oldest, *(_on(python, "linux") for python in project.pythons)):
        try:
            project.resolve(*BOUNDED, *options)
        except UnresolvedError as error:
            yield f"The bounds in pyproject.toml exclude each other ({' '.join(options)}):\n{error}"


def _pins(text: str) -> set[str]:
    """Each name==version of a file of requirements, names as the index compares them."""
    found = re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)
    return {f"{re.sub('[-_.]+', '-', name).lower()}=={version}" for name, version in found}


def _on(python: str, system: str) -> tuple[str, ...]:
    return "--python-version", python, "--python-platform", system


def _header() -> str:
    return f"# Exact versions, resolved against the public package index; made by {COMMAND}\n"


def check(project: Project) -> int:
    """Print what is wrong, or that nothing is; the exit status of a program."""
    found = list(faults(project))
    for fault in found:
        print(fault, file=sys.stderr)
    if not found:
        pythons, systems = ", ".join(project.pythons), ", ".join(SYSTEMS)
        print(f"constraints.txt holds for Python {pythons} on {systems}; so do the bounds.")
    return 1 if found else 0


def main(arguments: Sequence[str] | None = None, project: Project | None = None) -> int:
    """Check constraints.txt, or write it; the exit status of a program."""
    parser = argparse.ArgumentParser(description="Check constraints.txt against the public index.")
    parser.add_argument("--write", action="store_true", help="write it anew instead")
    parser.add_argument("--upgrade", action="store_true", help="with --write: newest versions")
    options = parser.parse_args(arguments)
    project = project or Project()
    try:
        if not options.write:
            return check(project)
        text = universal(project, keep=not options.upgrade)
        project.constraints.write_text(text, encoding="utf-8")
    except UnresolvedError as error:
        print(f"No versions satisfy pyproject.toml:\n{error}", file=sys.stderr)
        return 1
    except UnansweredError as error:
        said = "constraints.txt is unchecked: uv could not ask the public package index, and said:"
        print(f"{said}\n{error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
