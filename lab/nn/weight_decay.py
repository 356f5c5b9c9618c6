"""Parameters that weight decay must leave alone: the layer that owns them says which."""

from collections.abc import Sequence

import torch
from torch import nn

# Layers of torch whose weights are gains or slopes, and no linear maps.
_SPARED = (
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    nn.PReLU,
)


def without_decay(layer: nn.Module, *names: str) -> None:
    """Say that parameters of a layer must not decay, such as rates, frequencies and first states.

    Weight decay pulls a parameter towards zero. That is a prior on the weights of a linear map,
    but for a logarithm of a rate, a first state or a gain that starts at 1 it is a pull towards
    some arbitrary memory. The names are kept with the layer and not with the tensor, since a copy
    of a layer (`copy.deepcopy`) has new parameters, which know nothing of the old ones.

    Args:
        layer: owns the parameters; what is marked already stays so.
        names: of its own parameters, which may be None where an option leaves one out.

    Raises:
        ValueError: the layer has no parameter of that name.
    """
    for name in names:
        if name not in layer._parameters and getattr(layer, name, name) is not None:
            owned = sorted(layer._parameters)
            raise ValueError(f"{type(layer).__name__} has no parameter {name!r}, only {owned}")
    marked = (*getattr(layer, "undecayed", ()), *names)
    layer.undecayed = marked  # type: ignore[assignment]


def undecayed(model: nn.Module) -> set[str]:
    """The names of all parameters of a model that must not decay.

    These are the ones that a layer has marked by `without_decay`; those with the mark of the
    field's own codes, `parameter._no_weight_decay = True`; and of torch's own layers, which cannot
    mark anything, all biases, and everything in a normalisation.

    Source: state-spaces/mamba, `mamba_ssm/modules/mamba_simple.py` (the mark on parameters).
    """
    marked = {
        id(parameter)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None and _is_marked(module, name, parameter)
    }
    return {name for name, parameter in model.named_parameters() if id(parameter) in marked}


def spare(updates: torch.optim.Optimizer, names: Sequence[str], spared: set[str]) -> None:
    """Set the weight decay of some parameters to zero.

    Args:
        updates: with one parameter group for each name; nothing happens where it has no decay.
        names: of the parameters, in the order of the groups.
        spared: those that must not decay.
    """
    for name, group in zip(names, updates.param_groups, strict=True):
        if name in spared and "weight_decay" in group:
            group["weight_decay"] = 0.0


def _is_marked(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    by_layer = name in getattr(module, "undecayed", ())
    is_torch = type(module).__module__.startswith("torch.nn.")
    by_kind = isinstance(module, _SPARED) or (is_torch and "bias" in name)
    return by_layer or by_kind or bool(getattr(parameter, "_no_weight_decay", False))
