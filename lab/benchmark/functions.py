"""How long different ways to compute one function take, side by side."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from lab.benchmark.timing import milliseconds


def function_milliseconds(
    forms: Mapping[str, Callable[..., object]], inputs: Sequence[Tensor], *, backward: bool = False,
    rounds: int = 15, budget: float = 2.0,
) -> dict[str, float]:  # fmt: skip
    """Milliseconds of a call by name, the median over turns.

    Every form runs once before it is timed.

    Args:
        forms: called with the inputs.
        inputs: of any number; they are detached.
        backward: whether the gradients of the sum of what a form returns, a tensor then, are
            computed in the same call; if not, none are recorded.
        rounds, budget: as for `take_turns`.
    """
    leaves = [x.detach().requires_grad_(backward) for x in inputs]

    def run(form: Callable[..., object]) -> object:
        with torch.set_grad_enabled(backward):
            found = form(*leaves)
            if not backward:
                return found
            assert isinstance(found, Tensor)
            return torch.autograd.grad(found.sum(), leaves)

    calls = {name: partial(run, form) for name, form in forms.items()}
    return milliseconds(calls, rounds=rounds, budget=budget, label="forms of a function")
