"""The order parameter R of phase oscillators, set to a value, and displacements that leave it.

States are ["... 2 N"], real parts before imaginary ones. All that is changed are phases; sizes stay
what they are.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from lab.arguments import refuse

BISECTIONS, NEWTON_STEPS = 10, 8
SPREADS = 41  # factors from 1 to 3 at which it is seen whether spreading phases lowers R


def order_parameter(z: Float[Tensor, "... 2 N"]) -> Float[Tensor, "..."]:
    """R = |mean of e^{i theta}| over the phases theta of the oscillators, whatever their size."""
    return _order(_phase(z))


def set_order(
    z: Float[Tensor, "... 2 N"], target: Float[Tensor, "..."] | float
) -> Float[Tensor, "... 2 N"]:
    """The oscillators with R = target: do(R = r).

    With d the phases relative to the mean direction, in (-pi, pi], they become c d. To raise R, c
    in [0, 1] is found by bisection and Newton's method. To lower it, c is searched from 1 to 3;
    where R(c) is not monotone up to the target or does not reach it, d is mixed with equally spaced
    phases in the order of d instead. Then all phases are rotated back by the angle that the mean
    direction moved.

    Args:
        z: the states.
        target: R in [0, 1], dimensionless, one for each row or for all.

    Raises:
        ValueError: a target is outside [0, 1].
    """
    goal = torch.as_tensor(target, dtype=torch.float64, device=z.device).expand(z.shape[:-2])
    if not ((goal >= 0) & (goal <= 1)).all():
        refuse("set_order", "target", target, "in [0, 1]")
    theta = _phase(z)
    return _with_phase(z, _phases_with_order(theta, goal))


def placebo(
    z: Float[Tensor, "... 2 N"],
    target: Float[Tensor, "..."] | float,
    generator: torch.Generator,
) -> Float[Tensor, "... 2 N"]:
    """The oscillators moved about as much as by `set_order`, but with the R that they had.

    Each gets the displacement that `set_order` gives another one, by a random permutation in each
    row, and then R is restored as `set_order` sets it. The mean direction is where that leaves it:
    to rotate it back would move all of them once more, by up to as much again.
    """
    theta = _phase(z)
    moved = _displacements(z, theta, target)
    drawn = torch.rand(theta.shape, generator=generator, dtype=torch.float64)
    shuffled = theta + moved.gather(-1, drawn.argsort(-1).to(z.device))
    return _with_phase(z, _phases_with_order(shuffled, _order(theta)))


def turned_alike(
    z: Float[Tensor, "... 2 N"],
    target: Float[Tensor, "..."] | float,
    generator: torch.Generator,
) -> Float[Tensor, "... 2 N"]:
    """The oscillators of a row turned by one angle, as far as `set_order` moves them on average.

    The angle is the root mean square of its displacements, with a random sign for each row. It
    leaves R and all differences of phases as they are, and moves the mean direction.
    """
    theta = _phase(z)
    moved = _displacements(z, theta, target)
    drawn = torch.rand(theta.shape[:-1], generator=generator, dtype=torch.float64)
    angle = moved.square().mean(-1).sqrt() * (2 * (drawn < 0.5).to(theta) - 1)
    return _with_phase(z, theta + angle[..., None])


def _displacements(z: Tensor, theta: Tensor, target: Tensor | float) -> Tensor:
    """By how much `set_order` moves the phases theta ["... N"] of z, in (-pi, pi]."""
    return _wrapped(_phase(set_order(z, target)) - theta)


def _phases_with_order(theta: Tensor, goal: Tensor) -> Tensor:
    """Phases ["... N"] of the order parameter `goal` and the mean direction of `theta`."""
    direction = _direction(theta)
    d = _wrapped(theta - direction)
    N = d.shape[-1]
    rank = d.argsort(-1).argsort(-1)
    spaced = (2 * rank + 1) * (math.pi / N) - math.pi
    rises = goal >= _order(d)
    # How far to spread, in the rows that have to: the first factor at which R reaches the goal.
    factors = torch.linspace(1, 3, SPREADS, dtype=d.dtype, device=d.device)
    at = _order(factors[:, None] * d[~rises][:, None, :])
    reached = at <= goal[~rises][:, None]
    place = reached.to(torch.int64).argmax(-1).clamp_min(1)
    before_it = torch.arange(1, SPREADS, device=d.device) <= place[:, None]
    is_monotone = ((at.diff(dim=-1) <= 0) | ~before_it).all(-1)
    first, spreads = torch.ones_like(goal, dtype=torch.int64), torch.zeros_like(rises)
    first[~rises], spreads[~rises] = place, reached.any(-1) & is_monotone
    # R is above the goal at `low` and below it at `high`.
    low = torch.where(rises, 0.0, torch.where(spreads, factors[first - 1], 0.0))
    high = torch.where(rises | ~spreads, 1.0, factors[first])
    mixes = (~rises & ~spreads)[..., None]

    # Phases are start + share * change, where the share is 0 to 1 of a mixture, or c.
    start, change = torch.where(mixes, d, 0.0), torch.where(mixes, spaced - d, d)
    share = (low + high) / 2
    for step in range(BISECTIONS + NEWTON_STEPS):
        R, slope = _order_and_slope(start + share[..., None] * change, change)
        evaluated, is_above = share, goal < R
        low, high = torch.where(is_above, share, low), torch.where(is_above, high, share)
        share = (low + high) / 2
        if step >= BISECTIONS:
            nearer = (evaluated - (R - goal) / slope).clamp(low, high)
            share = torch.where(nearer.isfinite(), nearer, share)
    found = start + share[..., None] * change
    return found - _direction(found) + direction


def _order_and_slope(theta: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """R, and its derivative where each phase moves by `change`."""
    cosine, sine = theta.cos(), theta.sin()
    x, y = cosine.mean(-1), sine.mean(-1)
    R = torch.hypot(x, y)
    return R, (y * (change * cosine).mean(-1) - x * (change * sine).mean(-1)) / R


def _phase(z: Tensor) -> Tensor:
    """["... N"], in double precision."""
    return torch.atan2(z[..., 1, :].double(), z[..., 0, :].double())


def _with_phase(z: Tensor, theta: Tensor) -> Tensor:
    size = z.double().square().sum(-2).sqrt()
    return torch.stack([size * theta.cos(), size * theta.sin()], dim=-2).to(z.dtype)


def _order(theta: Tensor) -> Tensor:
    return torch.hypot(theta.cos().mean(-1), theta.sin().mean(-1))


def _direction(theta: Tensor) -> Tensor:
    """psi ["... 1"]."""
    return torch.atan2(theta.sin().mean(-1), theta.cos().mean(-1))[..., None]


def _wrapped(angle: Tensor) -> Tensor:
    """The same angles in (-pi, pi]."""
    return math.pi - torch.remainder(math.pi - angle, 2 * math.pi)
