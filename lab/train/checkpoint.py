"""Named tensors in a safetensors file, which holds numbers and text and cannot execute code.

The file is one that any reader of safetensors opens. Its metadata holds the settings of the run,
and a checksum over every byte of the file, so that no damage goes unnoticed.
"""

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
from lab.train.identity import canonical, describe, identified

__all__ = ["Checkpoint", "as_tensor", "describe", "from_tensor", "identified"]

# Where the checksum stands in the header, which is JSON without spaces. It is the SHA-256 of the
# whole file with zeros in its place.
_MARK = b'"sha256":"'
_NO_DIGEST = b"0" * 64


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
            "sha256": _NO_DIGEST.decode(),
        }
        write_bytes(self.path, _sealed(safetensors.torch.save(tensors, metadata)))
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
        content = self.path.read_bytes()
        try:
            metadata, tensors = _opened(content)
        except _DamageError as error:
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


def as_tensor(value: Any) -> Tensor:
    """JSON values as the bytes of their text."""
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def from_tensor(text: Tensor) -> Any:
    """What `as_tensor` was given."""
    return json.loads(bytes(text.tolist()))


class _DamageError(Exception):
    """The content of a file is not what was written."""


def _sealed(content: bytes) -> bytes:
    """The bytes of a file, with their checksum in its place."""
    start = content.index(_MARK) + len(_MARK)
    digest = hashlib.sha256(content).hexdigest().encode()
    return content[:start] + digest + content[start + len(digest) :]


def _opened(content: bytes) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file's bytes; no identity among those of another program's file.

    Raises:
        _DamageError: it is no such file, or its checksum is not that of its content.
    """
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size]
    place = header.find(_MARK)
    if place >= 0:
        start = 8 + place + len(_MARK)
        digest = content[start : start + len(_NO_DIGEST)]
        blank = content[:start] + _NO_DIGEST + content[start + len(_NO_DIGEST) :]
        if hashlib.sha256(blank).hexdigest().encode() != digest:
            raise _DamageError("its checksum is not that of its content")
    try:
        found = safetensors.torch.load(content)
        metadata = json.loads(header).get("__metadata__", {}) if place >= 0 else {}
    except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise _DamageError(" ".join(str(error).split())) from None
    # Copies: numbers in the file may lie where complex ones of torch must not, at an address that
    # is no multiple of 16, and the first operation on them would crash.
    return metadata, {name: tensor.clone() for name, tensor in found.items()}


def _first_difference(theirs: Any, ours: Any, name: str = "") -> str:
    """The innermost setting, by its dotted name, in which two sets of JSON values differ first."""
    if canonical(theirs) == canonical(ours):
        return ""
    if not (isinstance(theirs, dict) and isinstance(ours, dict)):
        return f"{name} is {theirs} there and {ours} here"
    keys = {**ours, **theirs}
    key = next(key for key in keys if canonical(theirs.get(key)) != canonical(ours.get(key)))
    return _first_difference(theirs.get(key), ours.get(key), f"{name}.{key}".lstrip("."))
