"""Where training sends the decisions of a router: whether a token would stay on the head it has."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import one_hot

from lab.mixers import RoutedHeads
from lab.model import SequenceModel
from lab.nn.attributes import replaced
from lab.nn.routing import Router
from lab.tasks import Task


class _Decided(nn.Module):
    """In the place of a router: given decisions for the table of all tokens, and movable gates."""

    routing, sees_one_token = "token choice", True

    def __init__(self, router: Router, decided: Tensor) -> None:
        super().__init__()
        self.router, self.decided = router, decided
        self.shift = torch.zeros_like(decided, requires_grad=True)

    def forward(self, x: Tensor) -> Tensor:
        p: Tensor = self.router(x)
        return p

    def taken(self, p: Tensor) -> Tensor:
        return self.decided.bool().expand(p.shape)

    def choose(self, p: Tensor) -> Tensor:
        return self.router.taken(p)  # of a step, and read by no gate

    def gates(self, *_: Tensor) -> Tensor:
        return self.decided + self.shift


def pushes(
    model: SequenceModel, task: Task, *, batch: int, length: int, generator: torch.Generator
) -> Float[Tensor, "V 2"]:
    """How steeply the loss falls as the score of the head that has a token gains on the next one's.

    That is what a gradient passed straight through a decision sees. In column 0 every token is on
    the head that the router gives it, and in column 1 this token alone is on the next best head.
    Where a number is positive, gradient descent keeps the token where it is, and where it is
    negative, it moves the score towards a tie. A decision is settled if column 0 is positive and
    column 1 negative. If both are negative, descent sends the token back and forth.

    Args:
        model: whose first layer is `RoutedHeads` with token choice, one head a token and none
            always on, all heads read; its decisions must depend on the token alone.
        task: whose loss it is.
        batch, length: of the sequences that the loss is the mean over.
        generator: random stream of the sequences.

    Raises:
        ValueError: the first layer is another one, or takes no table of tokens.

    Cost: V + 1 losses with their gradients.
    """
    mixer: Any = model.mixers[0]
    one = isinstance(mixer, RoutedHeads) and mixer.read_out == "all" and mixer.router.heads > 1
    by = (mixer.router.routing, mixer.router.capacity, mixer.router.always) if one else None
    if by != ("token choice", 1, 0):
        raise ValueError(f"pushes: {mixer} is not RoutedHeads with one of several heads a token")
    if model.positions is not None:
        raise ValueError("pushes: with positions there is no table of tokens to decide on")
    router, given = mixer.router, task.sample(batch, length, generator)
    with torch.no_grad():
        p = router(model.mixer_norms[0](model.embedding))
        best = (p + router.offset).topk(2, dim=-1).indices

    def lead(decided: Tensor, has: Tensor, lacks: Tensor) -> Tensor:
        stand_in = _Decided(router, decided)
        with replaced([mixer], "router", stand_in):
            loss = task.loss(model, given)
        (slope,) = torch.autograd.grad(loss, stand_in.shift)
        return (slope.gather(1, lacks) - slope.gather(1, has))[:, 0]

    first, second = best[:, :1], best[:, 1:]
    decided = one_hot(best[:, 0], router.heads).to(p.dtype)
    turned = []
    for v in range(len(p)):
        other = decided.clone()
        other[v] = one_hot(best[v, 1], router.heads).to(p.dtype)
        turned.append(lead(other, second, first)[v])
    return torch.stack([lead(decided, first, second), torch.stack(turned)], dim=1)
