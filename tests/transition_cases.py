"""The transitions and mixers of the shared suites. A new one adds a row."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from numeric import stream
from torch import Tensor, nn

from lab.memories import (
    CosFormer,
    DeltaRule,
    GatedDeltaRule,
    GatedLinearAttention,
    LinearAttention,
    LogEMA,
    LogLinearAttention,
    LogSSM,
    Retention,
    SoftmaxAttention,
    SoftSlots,
    TropicalGated,
    TropicalSlots,
)
from lab.memories.hierarchical import HierarchicalAttention
from lab.memories.truncated import TruncatedAttention
from lab.mixers import (
    Convolved,
    DelayLine,
    DeltaNet,
    KuramotoBank,
    KuramotoSSM,
    Mamba,
    MultiHead,
    OscDPLR,
    OscillatorBank,
    RoutedHeads,
    RoutedMemories,
    StateSpace,
)
from lab.nn import linear
from lab.nn.linear import precise
from lab.nn.routing import Router
from lab.transitions import (
    BlockCirculant,
    Circulant,
    ColumnSparse,
    Conjugated,
    LinOSS,
    OscGate,
    PolarDiagonal,
    RealDiagonal,
    Transition,
    displacement_rank,
    monarch,
    sparse_monarch,
)

D_MODEL = 6


class Dense(Transition):
    """Any matrix, with the default scan and product: the suites are tried on it."""

    def __init__(self, d_model: int, *, d_state: int, generator: torch.Generator) -> None:
        super().__init__(d_model, d_state=d_state)
        self.weights = linear(d_model, d_state**2, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * precise(self.weights, x).unflatten(-1, (self.d_state, self.d_state))

    def dense(self, parameters: Tensor) -> Tensor:
        return parameters


@dataclass(frozen=True)
class TransitionCase:
    """A family of transitions, and what its matrices promise.

    Args:
        build: (generator) -> transition for inputs of D_MODEL numbers.
        bound: the largest spectral norm that its proof allows; None where there is no proof.
        orthogonal: whether all its matrices are (unitary where complex).
        straight_through: whether gradients are by design not those of the values.
    """

    name: str
    build: Callable[[torch.Generator], Transition]
    bound: float | None = None
    orthogonal: bool = False
    straight_through: bool = False

    def transition(self, seed: int = 0) -> Transition:
        """In double precision, every parameter moved away from its initial value."""
        return _moved(self.build(stream(seed)), seed)


@dataclass(frozen=True)
class MixerCase:
    """A mixer ["B T D_MODEL"] to the same, with `step`; build: (generator) -> mixer."""

    name: str
    build: Callable[[torch.Generator], nn.Module]

    def mixer(self, seed: int = 0) -> nn.Module:
        """In double precision, every parameter moved away from its initial value."""
        return _moved(self.build(stream(seed)), seed)


def _moved(module, seed):
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, dtype=parameter.dtype, generator=stream(seed + 1))
            parameter += 0.3 * noise
    return module


DISPLACEMENT = {  # settings, and the largest norm; columns of length 1 have sqrt(N) together
    "as reported": ({"kernel": "cauchy", "gate": "sigmoid", "bound": "frobenius"}, None),
    "columns": ({}, 6**0.5),
    "projected": ({"proper": True, "bound": "norm"}, 1),
    "no kernel": ({"kernel": "none", "bound": "none"}, None),
    "random kernel": ({"kernel": "random"}, 6**0.5),
    "Newton-Schulz": ({"kernel": "balanced", "bound": "newton-schulz"}, 1),
}

OSCILLATORS = {  # settings beside the sizes
    "LinOSS": (LinOSS, {}),
    "OscGate": (OscGate, {}),
    "OscGate, small steps": (OscGate, {"dt": 0.3}),
    "OscGate, frequency": (OscGate, {"damping_gate": False}),
    "OscGate, damping": (OscGate, {"frequency_gate": False, "dt": 2.0}),
    "OscGate, implicit": (OscGate, {"polar": False}),
    "OscGate, implicit, small steps": (OscGate, {"polar": False, "dt": 0.3}),
    "OscGate, implicit, damping": (OscGate, {"polar": False, "frequency_gate": False}),
}


def oscillators(name, generator):
    kind, settings = OSCILLATORS[name]
    return kind(D_MODEL, d_state=6, generator=generator, **settings)


TRANSITIONS = [
    *(
        TransitionCase(
            name, partial(oscillators, name), bound=oscillators(name, stream(0)).norm_bound
        )
        for name in OSCILLATORS
    ),
    TransitionCase("dense", lambda generator: Dense(D_MODEL, d_state=5, generator=generator)),
    TransitionCase(
        "displacement rank 0",
        lambda _: RealDiagonal(D_MODEL, d_state=5, gate="tanh", start=2.2, spread=0.0),
        bound=1,
    ),
    *(
        TransitionCase(
            f"displacement rank, {name}",
            lambda generator, settings=settings: displacement_rank.DisplacementRank(
                D_MODEL, d_state=6, rank=2, generator=generator, dtype=torch.float64, **settings
            ),
            bound=bound,
        )
        for name, (settings, bound) in DISPLACEMENT.items()
    ),
    *(
        TransitionCase(
            f"all entries, {bound}",
            lambda generator, bound=bound: displacement_rank.Dense(
                D_MODEL, d_state=6, bound=bound, generator=generator
            ),
        )
        for bound in ("tanh", "columns")
    ),
    *(
        TransitionCase(
            f"Cayley-Cauchy, rank {rank}{', two-sided' if two_sided else ''}",
            lambda generator, rank=rank, two_sided=two_sided: displacement_rank.CayleyCauchy(
                D_MODEL,
                d_state=6,
                rank=rank,
                two_sided=two_sided,
                generator=generator,
                dtype=torch.float64,
            ),
            bound=1,
        )
        for rank, two_sided in ((2, False), (2, True), (4, False))
    ),
    TransitionCase(
        "gated diagonal",
        lambda generator: RealDiagonal(D_MODEL, d_state=5, start="dense", generator=generator),
        bound=1,
    ),
    *(
        TransitionCase(
            f"gated Monarch, {gate}",
            lambda generator, gate=gate: monarch.GatedMonarch(
                D_MODEL, d_state=9, gate=gate, generator=generator
            ),
            bound=1,
        )
        for gate in ("sigmoid", "tanh")
    ),
    *(
        TransitionCase(
            kind.__name__,
            lambda generator, kind=kind: kind(D_MODEL, d_state=9, generator=generator),
            bound=1,
            orthogonal=kind not in (monarch.BlockDense, monarch.MonarchHH),
        )
        for kind in (
            monarch.MonarchID,
            monarch.MonarchHH,
            monarch.BlockCay,
            monarch.BlockExp,
            monarch.BlockDense,
        )
    ),
    *(
        TransitionCase(
            f"BlockHH, {'one reflection' if shared else 'one a block'}",
            lambda generator, shared=shared: monarch.BlockHH(
                D_MODEL, d_state=9, shared=shared, generator=generator
            ),
            bound=1,
        )
        for shared in (False, True)
    ),
    *(
        TransitionCase(
            name,
            lambda generator, kind=kind, N=N, settings=settings: kind(
                D_MODEL, d_state=N, generator=generator, **settings
            ),
            bound=1.0,
        )
        for name, kind, N, settings in (
            ("positive diagonal", RealDiagonal, 5, {}),
            ("signed diagonal", RealDiagonal, 5, {"gate": "tanh"}),
            ("polar diagonal", PolarDiagonal, 6, {}),
            ("polar diagonal, real ends", PolarDiagonal, 6, {"real_ends": True}),
            ("polar diagonal, odd", PolarDiagonal, 5, {"real_ends": True}),
            ("circulant", Circulant, 6, {}),
            ("circulant, odd", Circulant, 5, {}),
            ("block-circulant", BlockCirculant, 8, {"block": 2}),
            ("block-circulant, odd", BlockCirculant, 9, {"block": 3, "factors": 3}),
        )
    ),
]

SPARSE_MONARCH = {  # kind, settings
    **{
        f"free Monarch, {pattern}": (sparse_monarch.FreeMonarch, {"pattern": pattern})
        for pattern in ("dense", "unstructured", "random", "magnitude", "by input", "aligned")
    },
    "free Monarch, groupings": (
        sparse_monarch.FreeMonarch,
        {"pattern": "magnitude", "grouped": True},
    ),
    **{
        f"aligned Monarch, {kind}": (sparse_monarch.AlignedMonarch, {"kind": kind})
        for kind in ("reflections", "rotations")
    },
    **{
        f"gated Monarch, pruned, {prune}": (sparse_monarch.MaskedGatedMonarch, {"prune": prune})
        for prune in ("dense", "2:4", "2:4, shuffled")
    },
}

TRANSITIONS += [
    TransitionCase(
        name,
        lambda generator, kind=kind, settings=settings: kind(
            D_MODEL, d_state=16, generator=generator, **settings
        ),
        bound=1,
        orthogonal=settings.get("kind") == "rotations",
    )
    for name, (kind, settings) in SPARSE_MONARCH.items()
]

PERMUTED = {  # kind, settings, and the largest norm
    "column-sparse": (ColumnSparse, {}, 5**0.5),
    "column-sparse, permutations": (ColumnSparse, {"choice": "sinkhorn"}, 1),
    "column-sparse, doubly stochastic": (
        ColumnSparse,
        {"choice": "sinkhorn", "temperature": 0.5},
        None,
    ),
    "column-sparse, near permutations": (
        ColumnSparse,
        {"choice": "orthogonal", "temperature": 0.5},
        1,
    ),
    "column-sparse, low rank": (ColumnSparse, {"choice": "gumbel", "low_rank": True}, None),
    "conjugated": (Conjugated, {}, 1),
    "conjugated, low rank": (Conjugated, {"low_rank": True}, None),
}

TRANSITIONS += [
    TransitionCase(
        name,
        lambda generator, kind=kind, settings=settings: kind(
            D_MODEL, d_state=5, generator=generator, **settings
        ),
        bound=bound,
        straight_through=True,
    )
    for name, (kind, settings, bound) in PERMUTED.items()
]
TRANSITIONS += [
    TransitionCase(
        f"diagonal, {gate}",
        lambda generator, gate=gate: RealDiagonal(
            D_MODEL, d_state=5, gate=gate, generator=generator
        ),
        bound=1,
        straight_through=True,
    )
    for gate in ("clipped sigmoid", "clipped tanh")
]

MEMORIES = {  # (generator) -> memory of 2 heads; and how it is used
    "log-semiring average": (
        lambda generator: LogEMA(D_MODEL, heads=2, d_key=3, d_value=4, generator=generator),
        {"bias": True},
    ),
    **{
        f"log-semiring state space, {bids} bids": (
            lambda generator, bids=bids: LogSSM(
                D_MODEL, heads=2, d_key=3, d_value=2, logits=bids, decay=0.3, generator=generator
            ),
            {},
        )
        for bids in ("summed", "separate")
    },
    "soft slots": (lambda _: SoftSlots(D_MODEL, heads=2, d_key=3, d_value=4), {"bias": True}),
    "soft slots, decay and mu": (
        lambda generator: SoftSlots(
            D_MODEL, heads=2, d_key=4, d_value=3, mu=2.5, decay=0.0025, generator=generator
        ),
        {"convolution": 2},
    ),
    "softmax attention": (lambda _: SoftmaxAttention(D_MODEL, heads=2, d_key=3, d_value=4), {}),
    "linear attention": (
        lambda _: LinearAttention(D_MODEL, heads=2, d_key=3, d_value=4),
        {"bias": True},
    ),
    "linear attention, shift": (
        lambda _: LinearAttention(D_MODEL, heads=2, d_key=3, feature="relu"),
        {"shift": True},
    ),
    "linear attention, decay": (
        lambda generator: LinearAttention(
            D_MODEL, heads=2, d_key=3, d_value=4, decay=0.0025, generator=generator
        ),
        {"gate": "headwise"},
    ),
    "linear attention, unnormalised": (
        lambda _: LinearAttention(D_MODEL, heads=2, d_key=3, feature="none", normalise=False),
        {"norm": True, "gate": "read"},
    ),
    "cosFormer": (
        lambda _: CosFormer(D_MODEL, heads=2, d_key=3, horizon=1024),
        {"gate": "elementwise"},
    ),
    "cosFormer, elu": (
        lambda _: CosFormer(D_MODEL, heads=2, d_key=3, horizon=1024, feature="elu"),
        {"convolution": 3, "gate": "constant"},
    ),
    "cosFormer, unnormalised": (
        lambda _: CosFormer(D_MODEL, heads=2, d_key=3, horizon=1024, normalise=False),
        {"norm": True, "gate": "headwise", "gate_start": None},
    ),
    "hierarchical attention": (
        lambda generator: HierarchicalAttention(
            D_MODEL, heads=2, d_key=8, leaf=2, rank=1, generator=generator
        ),
        {"norm": True},
    ),
    "truncated attention": (
        lambda _: TruncatedAttention(D_MODEL, heads=2, d_key=4, leaf=1, rank=1),
        {"gate": "silu"},
    ),
    "retention": (
        lambda _: Retention(D_MODEL, heads=2, d_key=4, d_value=3),
        {"norm": True, "gate": "silu"},
    ),
    "retention, no rotation": (
        lambda _: Retention(D_MODEL, heads=2, d_key=3, rotate=False),
        {"norm": True},
    ),
    "gated linear attention": (
        lambda generator: GatedLinearAttention(
            D_MODEL, heads=2, d_key=3, d_value=4, generator=generator
        ),
        {"norm": True, "gate": "silu", "convolution": 2},
    ),
    "log-linear attention": (
        lambda generator: LogLinearAttention(
            D_MODEL,
            LinearAttention(D_MODEL, heads=2, d_key=3, d_value=4),
            levels=11,
            favoured=1,
            generator=generator,
        ),
        {"bias": True},
    ),
    "log-linear cosFormer, inclusive": (
        lambda generator: LogLinearAttention(
            D_MODEL,
            CosFormer(D_MODEL, heads=2, d_key=3, horizon=1024),
            levels=11,
            inclusive=True,
            generator=generator,
        ),
        {"convolution": 3},
    ),
    "log-linear attention, unnormalised": (
        lambda generator: LogLinearAttention(
            D_MODEL,
            LinearAttention(D_MODEL, heads=2, d_key=3, feature="none", normalise=False),
            levels=11,
            generator=generator,
        ),
        {"norm": True},
    ),
    **{
        f"{kind.__name__}, {form}": (
            lambda generator, kind=kind, form=form: kind(
                D_MODEL,
                heads=2,
                d_key=3,
                d_value=4,
                mu=2.0,
                decay=0.0025,
                training_form=form,
                generator=generator,
            ),
            {"shift": True, "gate": "elementwise"},
        )
        for kind in (TropicalSlots, TropicalGated)
        for form in ("soft", "straight-through")
    },
    "delta rule": (
        lambda generator: DeltaRule(D_MODEL, heads=2, d_key=3, d_value=4, generator=generator),
        {"convolution": 3},
    ),
    "gated delta rule": (
        lambda generator: GatedDeltaRule(D_MODEL, heads=2, d_key=3, d_value=4, generator=generator),
        {"convolution": 2, "norm": True, "gate": "silu"},
    ),
}

ROUTERS = {  # causal ones: settings of the router, and of the layer
    "all": {"routing": "all", "read_out": "selected"},
    "token choice": {},
    "token choice, two of three": {"capacity": 2, "read_out": "selected"},
    "token choice, one always": {"always": 1, "fixed": True},
    "threshold": {"routing": "threshold"},
    "prefix rank": {"routing": "prefix rank", "fixed": True, "read_out": "selected"},
    "lagged chunks": {"routing": "lagged chunks", "chunk": 2},
}


def routed_heads(generator, *, fixed=False, read_out="all", heads=3, **settings):
    """Three rotations behind a router."""
    rotations = [
        monarch.MonarchID(D_MODEL, d_state=4, fixed=fixed, generator=generator)
        for _ in range(heads)
    ]
    router = Router(D_MODEL, heads=heads, generator=generator, **settings)
    return RoutedHeads(D_MODEL, rotations, router=router, read_out=read_out, generator=generator)


MIXERS = [
    *(
        MixerCase(
            name,
            lambda generator, build=build, settings=settings: MultiHead(
                D_MODEL, build(generator), generator=generator, **settings
            ),
        )
        for name, (build, settings) in MEMORIES.items()
    ),
    *(
        MixerCase(
            f"Mamba, expansion {expand}, convolution {width}, gate {gate}",
            lambda generator, expand=expand, width=width, gate=gate: Mamba(
                D_MODEL, d_state=3, expand=expand, convolution=width, gate=gate, generator=generator
            ),
        )
        for expand, width, gate in (
            (1, 0, "silu"),
            (1, 3, None),
            (1, 2, "elementwise"),
            (2, 4, "silu"),
        )
    ),
    *(
        MixerCase(
            f"OscDPLR, {form}, {rule}",
            lambda generator, form=form, rule=rule: OscDPLR(
                D_MODEL, d_state=5, dt=0.5, form=form, discretisation=rule,
                omega_range=(0.1, 1), generator=generator,
            ),
        )
        for form in ("plain", "dissipative", "real")
        for rule in ("bilinear", "zero-order hold")
    ),
    *(
        MixerCase(
            f"Kuramoto, {name}",
            lambda generator, settings=settings: KuramotoSSM(
                D_MODEL, d_state=5, generator=generator, **settings
            ),
        )
        for name, settings in {
            "coupled": {}, "uncoupled": {"coupled": False}, "harmonics": {"harmonics": 3},
        }.items()
    ),
    MixerCase(
        "Kuramoto bank",
        lambda generator: KuramotoBank(
            D_MODEL, d_state=5, harmonics=3, noise="common", generator=generator
        ),
    ),
    MixerCase(
        "delay line", lambda generator: DelayLine(D_MODEL, taps=4, channels=2, generator=generator)
    ),
    *(
        MixerCase(
            f"oscillator bank, {name}",
            lambda generator, name=name: OscillatorBank(
                D_MODEL, oscillators(name, generator), generator=generator
            ),
        )
        for name in OSCILLATORS
    ),
    MixerCase(
        "polar diagonal behind a convolution",
        lambda generator: Convolved(
            D_MODEL, StateSpace(
                D_MODEL, PolarDiagonal(D_MODEL, d_state=4, generator=generator), generator=generator
            ),
            width=3,
            generator=generator,
        ),
    ),
    *(
        MixerCase(
            f"state space, {case.name}",
            lambda generator, case=case: StateSpace(
                D_MODEL, case.build(generator), learn_initial=True, skip=True, generator=generator
            ),
        )
        for case in TRANSITIONS
    ),
    MixerCase(
        "state space, drive without bias",
        lambda generator: StateSpace(
            D_MODEL, Dense(D_MODEL, d_state=3, generator=generator), drive_bias=False,
            generator=generator,
        ),
    ),
    MixerCase(
        "state space, no drive",
        lambda generator: StateSpace(
            D_MODEL, Dense(D_MODEL, d_state=3, generator=generator), drive=False,
            learn_initial=True, readout_bias=False, generator=generator,
        ),
    ),
    *(
        MixerCase(
            f"DeltaNet, {name}",
            lambda generator, settings=settings: DeltaNet(
                D_MODEL, heads=2, negative=True, generator=generator, **settings
            ),
        )
        for name, settings in {
            "unrouted": {"d_key": 3, "d_value": 2},
            "routed columns": {"d_key": 3, "d_value": 2, "routing": "columns"},
            "permutations": {"d_key": 3, "d_value": 2, "routing": "permutations"},
            "two factors": {"d_key": 2, "factors": 2},
            "in chunks": {"d_key": 9, "d_value": 2},
        }.items()
    ),
    *(
        MixerCase(
            f"routed heads, straight-through, {name}",
            lambda generator, settings=settings: routed_heads(generator, **settings),
        )
        for name, settings in ROUTERS.items()
    ),
    MixerCase(
        "routed memories, straight-through",
        lambda generator: RoutedMemories(
            D_MODEL, heads=2, d_key=3, d_value=2, memories=3, generator=generator
        ),
    ),
]  # fmt: skip
