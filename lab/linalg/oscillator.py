"""Damped harmonic oscillators y'' + 2 zeta omega y' + omega^2 y = u, as complex eigenvalues."""

import torch
from jaxtyping import Complex, Float, Inexact
from torch import Tensor

from lab.linalg.precision import widened


@widened
def oscillator_eigenvalues(
    omega: Float[Tensor, "..."], zeta: Float[Tensor, "..."]
) -> Complex[Tensor, "..."]:
    """Poles -zeta omega + i omega sqrt(1 - zeta^2): the upper one of each conjugate pair.

    Args:
        omega: undamped angular frequency in rad/s, positive.
        zeta: damping ratio, dimensionless, in [0, 1]. A sigmoid can round to 1, where
            the gradient of the root is infinite; it is set to 0 there.

    Returns:
        Complex["..."], in 1/s, of modulus omega and with real part at most 0.
    """
    smallest = torch.finfo(zeta.dtype).tiny
    ratio = torch.sqrt((1 - zeta.square()).clamp_min(smallest))
    return torch.complex(-zeta * omega, omega * ratio)


@widened
def oscillator_parameters(
    transition: Inexact[Tensor, "N N"], dt: float
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """The omega and zeta of the oscillators that a discrete transition actually implements.

    A discretisation warps frequencies (bilinear: 2 atan(dt Im(lambda) / 2) per step, if undamped),
    and a low-rank term moves every eigenvalue. The logarithm of the eigenvalues of A_d accounts for
    both, as long as no frequency is above pi/dt.

    Args:
        transition: A_d of h[t] = A_d h[t-1] + B_d u[t].
        dt: seconds per step.

    Returns:
        omega Float["N"] in rad/s and zeta Float["N"], negative for an eigenvalue that grows.
    """
    eigenvalues = torch.log(torch.linalg.eigvals(transition)) / dt
    omega = eigenvalues.abs()
    return omega, -eigenvalues.real / omega


def parameter_error(
    found: Float[Tensor, "parameters found"], true: Float[Tensor, "parameters oscillators"]
) -> Float[Tensor, ""]:
    """The largest relative error of any parameter, once each oscillator is matched to a found one.

    The pairs are those with the smallest sum of their errors; found oscillators may be left over.

    Args:
        found: such as omega and zeta, with the oscillators in any order.
        true: parameters other than zero, of at most as many oscillators.

    Returns:
        The error, dimensionless.

    Raises:
        ValueError: there are more true oscillators than found ones, or other parameters.
    """
    # Imported here: models train without it.
    from scipy.optimize import linear_sum_assignment

    if found.ndim != 2 or len(found) != len(true) or found.shape[1] < true.shape[1]:
        shapes = f"found {tuple(found.shape)} and true {tuple(true.shape)}"
        raise ValueError(f"{shapes} must share their first axis, and none of the true be missing")
    gaps = (found[:, :, None] - true[:, None]) / true[:, None]
    worst = gaps.abs().amax(0)
    return worst[linear_sum_assignment(worst.detach().cpu())].max()
