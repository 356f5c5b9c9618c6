"""Learning rates by name and step, one update of models side by side, and the optimiser's state."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from lab.arguments import finite
from lab.train.checkpoint import as_tensor, from_tensor
from lab.train.side_by_side import Named, SideBySide

Rates = float | Mapping[str, float]
Schedule = Literal["constant", "one-cycle", "warmup-cosine"]
_NUMBERS = "optimizer numbers"
# Their step for all parameters of a group at once gives the same bits as for one after another.
_AT_ONCE = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


def rates_by_name(names: Sequence[str], lr: Rates) -> dict[str, float]:
    """One step size per parameter name.

    Raises:
        ValueError: a rate is no finite number of at least 0, is for no parameter, or is left out.
    """
    named = dict(lr) if isinstance(lr, Mapping) else {"": lr}
    if unknown := set(named) - set(names) - {""}:
        raise ValueError(f"lr names {sorted(map(str, unknown))}, the model has {sorted(names)}")
    if missing := [name for name in names if name not in named and "" not in named]:
        raise ValueError(f'lr leaves out {missing}; give it, or "" for all that are not named')
    checked = {n: finite("fit", f"lr[{n!r}]" if n else "lr", named[n], least=0) for n in named}
    return {name: checked.get(name, checked.get("", math.nan)) for name in names}


def grouped(
    optimizer: Callable[..., torch.optim.Optimizer],
    parameters: Named,
    rates: Mapping[str, float],
    spared: Collection[str],
) -> torch.optim.Optimizer:
    """An optimiser with one group for all parameters that share a step size and a weight decay.

    With a group for each parameter, most of the time of its step is spent in Python. Complex
    parameters have groups of their own, because Adam's step for several at once rounds them
    otherwise.

    Args:
        optimizer: called with the groups.
        parameters: all of them, by name.
        rates: the lr of each, by name.
        spared: names of the parameters that must not decay.
    """
    alike: dict[tuple[float, bool, bool], list[str]] = {}
    for name, parameter in parameters.items():
        alike.setdefault((rates[name], name in spared, parameter.is_complex()), []).append(name)
    made = [
        {"params": [parameters[name] for name in names], "lr": rate}
        for (rate, _, _), names in alike.items()
    ]
    updates = optimizer(made)
    for group, (_, is_spared, _) in zip(updates.param_groups, alike, strict=True):
        if is_spared and "weight_decay" in group:
            group["weight_decay"] = 0.0
        if type(updates) in _AT_ONCE and _is_free(group):
            group["foreach"] = True
    return updates


def _is_free(group: Mapping[str, Any]) -> bool:
    """Whether the form of a step is left to torch, which on a CPU takes parameters in turn."""
    chosen = (group["foreach"], group["fused"], group["differentiable"] or None)
    first = group["params"][0]
    return all(choice is None for choice in chosen) and first.is_cpu and not first.is_complex()


def multiplier(schedule: Schedule, step: int, steps: int) -> float:
    """What the peak step size is multiplied by at an update."""
    if schedule == "constant":
        return 1.0
    rise = (0.3 if schedule == "one-cycle" else 0.05) * steps
    if schedule == "warmup-cosine" and step < rise:
        return (step + 1) / (rise + 1)
    done = step / rise if step < rise else 1 + (step - rise) / max(steps - rise, 1)
    return 0.5 - 0.5 * math.cos(math.pi * max(done, 0.04))  # never a step size of zero at the start


def multipliers(schedule: Schedule, steps: int) -> Float64[Tensor, "steps"]:
    """`multiplier` at every update."""
    each = [multiplier(schedule, step, steps) for step in range(steps)]
    return torch.tensor(each, dtype=torch.float64)


@torch.no_grad()
def update(
    run: SideBySide, updates: torch.optim.Optimizer, losses: Tensor, clip: float | None, skip: bool
) -> Tensor:
    """One update, of the good models alone if others are to be skipped; Bool["models"]: which."""
    good = torch.ones_like(losses, dtype=torch.bool)
    if clip is not None or skip:  # nobody else has to know how long the gradients are
        norms = run.gradient_norms()
        good = (losses + norms).isfinite()
        if clip is not None:
            run.shrink_gradients(clip, norms)
    if not skip or bool(good.all()):
        updates.step()
        return torch.zeros_like(good)
    parameters = list(run.parameters.values())
    before = [tensor.clone() for tensor in (*parameters, *_moments(updates))]
    updates.step()
    after = [*parameters, *_moments(updates)]
    # Before the first update there are no moments: they start at zero.
    before += [torch.zeros_like(tensor) for tensor in after[len(before) :]]
    run.keep(after, before, good)
    return ~good


def _moments(updates: torch.optim.Optimizer) -> list[Tensor]:
    """Per-parameter state of the optimiser (Adam's moments); step counters are excluded."""
    pairs = ((p, value) for p, kept in updates.state.items() for value in kept.values())
    return [v for p, v in pairs if isinstance(v, Tensor) and v.shape == p.shape and v.ndim]


# --- saved and restored --------------------------------------------------------------------------


def optimiser_state(updates: torch.optim.Optimizer) -> Named:
    """All that an optimiser remembers, as named tensors; numbers are text in one of them.

    Raises:
        ValueError: it remembers something else; says what.
    """
    tensors: Named = {}
    numbers: dict[str, dict[str, Any]] = {}
    for index, kept in updates.state_dict()["state"].items():
        for key, value in kept.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{key}"] = value
            elif _is_number(value):
                numbers.setdefault(str(index), {})[key] = value
            else:
                name, kind = type(updates).__name__, type(value).__name__
                raise ValueError(
                    f"{name} remembers {key!r} as a {kind}, which a checkpoint cannot hold: use an "
                    "optimiser whose state is tensors and numbers, or no checkpoint"
                )
    groups = [{k: v for k, v in g.items() if _is_number(v)} for g in updates.param_groups]
    text = {"numbers": numbers, "groups": groups, "tensors": list(tensors)}
    return tensors | {_NUMBERS: as_tensor(text)}


def optimiser_names(state: Named) -> list[str]:
    """The names of all tensors that belong to the optimiser in a state."""
    if _NUMBERS not in state:
        return [_NUMBERS]
    names: list[str] = from_tensor(state[_NUMBERS])["tensors"]
    return names


def restore_optimiser(updates: torch.optim.Optimizer, state: Named) -> None:
    """Put back what `optimiser_state` gave."""
    text = from_tensor(state[_NUMBERS])
    kept: dict[int, dict[str, Any]] = {int(i): dict(named) for i, named in text["numbers"].items()}
    for kind, _, rest in (name.partition("/") for name in state):
        if kind == "optimizer":
            number, _, key = rest.partition("/")
            kept.setdefault(int(number), {})[key] = state[f"optimizer/{rest}"]
    now = updates.state_dict()
    groups = zip(now["param_groups"], text["groups"], strict=True)
    updates.load_state_dict({"state": kept, "param_groups": [{**g, **then} for g, then in groups]})
    for index, parameter in enumerate(p for g in updates.param_groups for p in g["params"]):
        for key, value in kept.get(index, {}).items():
            put = updates.state[parameter][key]
            # torch gives it the type of the parameter, whatever it was.
            if isinstance(value, Tensor) and put.dtype != value.dtype:
                updates.state[parameter][key] = value.to(put.device)


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
