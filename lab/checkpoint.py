"""Named tensors in a safetensors file, which holds numbers and text and cannot execute code."""

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

COMPLEX = "complex "  # begins the name of a complex tensor, which is kept as pairs of reals


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
            value = value.detach().cpu().contiguous()
            if value.is_complex():
                name, value = COMPLEX + name, torch.view_as_real(value)
            tensors[name] = value
        metadata = {"identity": json.dumps(self.identity, sort_keys=True)}
        write_bytes(self.path, safetensors.torch.save(tensors, metadata))
        self.saved_at = time.perf_counter()

    def load(self) -> dict[str, Tensor]:
        """The saved tensors; none where there is no file yet.

        Raises:
            ValueError: the file is damaged, or of another model or other settings; says which.
        """
        if self.path is None or not self.path.exists():
            return {}
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in list(file.keys())}
        except safetensors.SafetensorError as error:
            raise ValueError(
                f"{self.path} is damaged ({error}): delete it to start afresh"
            ) from None
        if difference := self._difference(metadata.get("identity")):
            raise ValueError(
                f"{self.path} is of another model or other settings ({difference}): "
                "delete it to start afresh, or name another checkpoint"
            )
        return {
            name.removeprefix(COMPLEX): torch.view_as_complex(value)
            if name.startswith(COMPLEX)
            else value
            for name, value in tensors.items()
        }

    def _difference(self, found: str | None) -> str:
        """The first setting in which the file differs; empty if there is none."""
        if found is None:
            return "this workspace did not write it"
        theirs = json.loads(found)
        for key, ours in json.loads(json.dumps(self.identity)).items():
            if theirs.get(key) != ours:
                return f"{key} is {theirs.get(key)} there and {ours} here"
        return ""
