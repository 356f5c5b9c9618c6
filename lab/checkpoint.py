"""Named tensors in a safetensors file, which holds numbers and text and cannot execute code."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lab.files import write_bytes


class Checkpoint:
    """The file of one run, which no other run can load by mistake.

    Args:
        path: of the file; None for a run that is not saved.
        identity: settings, JSON values, that must be the same where the file is loaded again.
        every: seconds between saves; see `due`.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, identity: Mapping[str, Any], every: float
    ) -> None:
        self.path = None if path is None else Path(path)
        self.identity, self.every = dict(identity), every
        self.saved_at = time.perf_counter()

    def due(self, *, last: bool) -> bool:
        """Whether it is time to save: after `every` seconds, and at the `last` opportunity."""
        return self.path is not None and (last or time.perf_counter() - self.saved_at >= self.every)

    def save(self, state: Mapping[str, Tensor]) -> None:
        """Replace the file, in one step."""
        assert self.path is not None, "save() is for runs with a path: ask due() first"
        tensors = {}
        for name, value in state.items():
            value = value.detach().cpu().resolve_conj()
            tensors[name] = (
                torch.view_as_real(value) if value.is_complex() else value
            ).contiguous()
        metadata = {
            "identity": json.dumps(self.identity, sort_keys=True),
            # The complex ones, which are kept as pairs of reals.
            "complex": json.dumps([name for name, value in state.items() if value.is_complex()]),
        }
        write_bytes(self.path, safetensors.torch.save(tensors, metadata))
        self.saved_at = time.perf_counter()

    def load(self) -> dict[str, Tensor]:
        """The saved tensors; none where there is no file yet.

        Raises:
            ValueError: the file is damaged, or of another model or other settings; says which.
            FileNotFoundError: there is no folder to save it in, which is better known now.
        """
        if self.path is None:
            return {}
        if not self.path.parent.is_dir():
            folder = self.path.parent
            raise FileNotFoundError(f"{self.path} cannot be written: there is no folder {folder}")
        if not self.path.exists():
            return {}
        if not self.path.is_file():
            raise ValueError(f"{self.path} is not a file: name another checkpoint")
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                # Copies: numbers in the file may lie where complex ones of torch must not, at an
                # address that is no multiple of 16, and the first operation on them would crash.
                tensors = {name: file.get_tensor(name).clone() for name in list(file.keys())}
        except safetensors.SafetensorError as error:
            raise ValueError(
                f"{self.path} is damaged ({error}): delete it to start afresh"
            ) from None
        if difference := self._difference(metadata.get("identity")):
            raise ValueError(
                f"{self.path} is of another model or other settings ({difference}): "
                "delete it to start afresh, or name another checkpoint"
            )
        pairs = {name: tensors[name] for name in json.loads(metadata["complex"])}
        return tensors | {name: torch.view_as_complex(pair) for name, pair in pairs.items()}

    def _difference(self, found: str | None) -> str:
        """The first setting in which the file differs; empty if there is none."""
        if found is None:
            return "this workspace did not write it"
        return _first_difference(json.loads(found), json.loads(json.dumps(self.identity)))


def _first_difference(theirs: Any, ours: Any, name: str = "") -> str:
    """The innermost setting, by its dotted name, in which two sets of JSON values differ first."""
    if theirs == ours:
        return ""
    if not (isinstance(theirs, dict) and isinstance(ours, dict)):
        return f"{name} is {theirs} there and {ours} here"
    key = next(key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key))
    return _first_difference(theirs.get(key), ours.get(key), f"{name}.{key}".lstrip("."))


def describe(thing: Any, depth: int = 8) -> Any:
    """JSON values that tell a model or a task from one of another make, `depth` levels down.

    Numbers and text as they are, a tensor by a digest, a function by its name, and any other object
    by the name of its class and its public attributes. Parameters are not among those of a module.
    """
    if thing is None or isinstance(thing, int | float | str):
        return thing
    if isinstance(thing, torch.dtype | torch.device):
        return str(thing)
    if isinstance(thing, Tensor):
        plain = thing.detach().cpu().resolve_conj().contiguous()
        digest = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]
    parts = dict(getattr(thing, "__dict__", {}))
    if isinstance(thing, torch.nn.Module):
        parts |= dict(thing.named_children())
        del parts["training"]
    elif isinstance(thing, Mapping):
        parts = {str(key): value for key, value in thing.items()}
    elif isinstance(thing, list | tuple):
        parts = {str(index): value for index, value in enumerate(thing)}
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    seen = {k: describe(v, depth - 1) for k, v in parts.items() if depth and not k.startswith("_")}
    return {"class": name, **seen}
