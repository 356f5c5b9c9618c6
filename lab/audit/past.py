"""Whether an output depends on earlier inputs: the counterpart of `lab.audit.look_ahead`."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@torch.no_grad()
def past_dependence(
    model: Callable[[Tensor], Float[Tensor, "B T V"]],
    tokens: Int64[Tensor, "B T"],
    generator: torch.Generator,
) -> float:
    """The largest change of a logit at the last step when all earlier tokens are shuffled.

    Zero, to the last bit, of a model that computes each position by itself. A model with a memory
    is told from it only if the shuffled tokens differ, as those of text do.

    Args:
        model: must draw nothing at random.
        tokens: sequences of at least three tokens, each shuffled in its own way.
        generator: random stream of the orders.

    Raises:
        ValueError: there are fewer than three tokens, or shuffling changes none of the sequences.
    """
    B, T = tokens.shape
    if T < 3:
        raise ValueError(f"sequences of {T} tokens: give three or more, so that two can be swapped")
    order = torch.rand(B, T - 1, generator=generator).argsort(1).to(tokens.device)
    shuffled = torch.cat([tokens[:, :-1].gather(1, order), tokens[:, -1:]], dim=1)
    if torch.equal(shuffled, tokens):
        raise ValueError("no sequence changes when it is shuffled: give more of them, or others")
    return (model(shuffled)[:, -1] - model(tokens)[:, -1]).abs().max().item()
