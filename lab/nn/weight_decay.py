"""Parameters that are exempt from weight decay; the layer that owns them marks them."""

from torch import nn

# Layers of torch whose weights are gains or slopes rather than linear maps.
_SPARED = (
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    nn.PReLU,
)


def without_decay(layer: nn.Module, *names: str) -> None:
    """Exempt parameters of a layer from weight decay, such as rates, frequencies, initial states.

    Weight decay pulls a parameter towards zero. That is a sensible prior for the weights of a
    linear map. For the logarithm of a rate, an initial state or a gain that starts at 1, zero is an
    arbitrary value, and so is the memory it stands for. The names are stored in the layer rather
    than in the tensor, because a copy of a layer (`copy.deepcopy`) has new parameter tensors.

    Args:
        layer: the layer that owns the parameters; earlier marks are kept.
        names: names of its parameters; a parameter may be None if an option leaves it out.

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
    """The names of all parameters of a model that are exempt from weight decay.

    These are: parameters marked by `without_decay`; parameters with the mark that published code
    uses, `parameter._no_weight_decay = True`; and, in torch's own layers, all biases and all
    parameters of normalisations.

    Source: state-spaces/mamba, `mamba_ssm/modules/mamba_simple.py` (the mark on parameters).
    """
    marked = {
        id(parameter)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None and _is_marked(module, name, parameter)
    }
    return {name for name, parameter in model.named_parameters() if id(parameter) in marked}


def _is_marked(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    by_layer = name in getattr(module, "undecayed", ())
    is_torch = type(module).__module__.startswith("torch.nn.")
    by_kind = isinstance(module, _SPARED) or (is_torch and "bias" in name)
    return by_layer or by_kind or bool(getattr(parameter, "_no_weight_decay", False))
