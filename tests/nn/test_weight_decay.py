"""What weight decay leaves alone: marked by the layers, honoured by `fit`."""

import copy
import inspect
from functools import partial

import pytest
import torch
from numeric import stream
from torch import nn
from transition_cases import D_MODEL, MIXERS

import lab.memories
import lab.mixers
import lab.transitions
from lab.memories import LinearAttention, Memory
from lab.mixers import Mamba, MultiHead, OscDPLR, StateSpace
from lab.model import SequenceModel, SwiGLU
from lab.nn.weight_decay import undecayed, without_decay
from lab.tasks import ZoologyRecall
from lab.train import fit, fit_together
from lab.transitions import OscGate, Oscillators, Transition
from lab.transitions.displacement_rank import DisplacementRank
from lab.transitions.monarch import GatedMonarch

TASK = ZoologyRecall(16, 2, random_filler=False)

# The last word in the name of every parameter that any mixer has, and whether it decays. Weights
# of linear maps do; what sets a memory, a first state, an offset or a gain does not.
DECAYS = {
    "weight": True,  # of linear maps and gates
    "kernel": True,  # of short convolutions
    "B": True,  # of OscDPLR
    "C": True,
    "U": True,  # bases of blocks, which map keys and values
    "V": True,
    "bias": False,
    "initial": False,  # first states
    "norm": False,
    "D": False,  # the skip past the state
    "log_A": False,
    "frequency": False,
    "omega": False,
    "noise_scale": False,
    "log_omega": False,
    "logit_zeta": False,
    "P": False,  # with Q the coupling of oscillators
    "Q": False,
    "theta": False,  # gains of a permutation
    "p": False,  # with q what is added to one
    "q": False,
    "left": False,  # fixed rotations, as skew matrices
    "right": False,
    "logits": False,  # of doubly stochastic shuffles
}
EVERY = [
    *((case.name, case.mixer) for case in MIXERS),
    ("OscDPLR", lambda: OscDPLR(D_MODEL, generator=stream(0))),
]


def _word(name):
    """The last part of a parameter's name that is no number in a list."""
    return next(part for part in reversed(name.split(".")) if not part.isdecimal())


@pytest.mark.parametrize(("name", "build"), EVERY, ids=[name for name, _ in EVERY])
def test_every_mixer_marks_what_must_not_decay(name, build):
    mixer = build()
    expected = {n for n, _ in mixer.named_parameters() if not DECAYS[_word(n)]}
    assert undecayed(mixer) == expected


def test_the_table_is_of_all_mixers_and_of_all_their_parameters():
    built = [build() for _, build in EVERY]
    kinds = {type(module) for mixer in built for module in mixer.modules()}
    layers = {
        kind
        for room in (lab.memories, lab.mixers, lab.transitions)
        for kind in vars(room).values()
        if inspect.isclass(kind) and issubclass(kind, nn.Module)
    }
    abstract = {Memory, Transition, Oscillators}
    assert layers - abstract <= kinds
    names = {_word(name) for mixer in built for name, _ in mixer.named_parameters()}
    assert names == set(DECAYS)


def model(seed=0):
    generator = stream(seed)
    memory = LinearAttention(8, heads=2, d_key=3, decay=0.0025, generator=generator)
    transition = OscGate(8, d_state=6, generator=generator)
    mixers = [
        MultiHead(8, memory, norm=True, gate="silu", convolution=2, generator=generator),
        Mamba(8, d_state=3, generator=generator),
        StateSpace(8, transition, learn_initial=True, skip=True, generator=generator),
        StateSpace(8, GatedMonarch(8, d_state=4, generator=generator), generator=generator),
        StateSpace(
            8, DisplacementRank(8, d_state=4, rank=1, generator=generator), generator=generator
        ),
    ]
    return SequenceModel(
        16, 16, 8, mixers, norm="layer", generator=generator, positions=8,
        channels=[SwiGLU(8, 8, generator=generator) for _ in mixers],
    )  # fmt: skip


def test_a_model_adds_its_norms_and_biases_and_no_embedding():
    spared = undecayed(model())
    assert {"norm.weight", "norm.bias", "mixer_norms.0.weight", "head.bias"} <= spared
    assert {"mixers.0.norm", "mixers.1.log_A", "mixers.1.dt.bias", "mixers.2.initial"} <= spared
    assert not spared & {"embedding", "positions", "head.weight", "mixers.1.dt.weight"}


class Marked(nn.Module):
    """A layer with the mark that other code bases put on the parameter itself."""

    def __init__(self):
        super().__init__()
        self.rate, self.weight = (nn.Parameter(torch.ones(2)) for _ in range(2))
        self.rate._no_weight_decay = True
        self.normalise = nn.BatchNorm1d(2)
        self.slope = nn.PReLU()
        self.memory = nn.LSTM(2, 2)


def test_the_mark_of_other_codes_and_the_layers_of_torch_count_too():
    assert undecayed(Marked()) == {
        "rate", "normalise.weight", "normalise.bias", "slope.weight", "memory.bias_ih_l0",
        "memory.bias_hh_l0",
    }  # fmt: skip


def test_a_tied_parameter_is_spared_under_whatever_name_it_has():
    both = nn.ModuleList([nn.Linear(2, 2), Mamba(4, d_state=2)])
    both[0].weight = both[1].log_A
    assert "0.weight" in undecayed(both)


def test_marks_survive_copies_moves_and_state_dicts():
    first = model()
    expected = undecayed(first)
    assert undecayed(copy.deepcopy(first)) == expected
    assert undecayed(copy.deepcopy(first).double()) == expected
    assert undecayed(model().to(torch.bfloat16)) == expected
    again = model(1)
    again.load_state_dict(first.state_dict(), assign=True)
    assert undecayed(again) == expected


def test_a_mark_for_no_parameter_is_refused():
    with pytest.raises(ValueError, match=r"Linear has no parameter 'rate', only \['bias', 'weight"):
        without_decay(nn.Linear(2, 2), "rate")
    without_decay(nn.Linear(2, 2, bias=False), "bias")  # left out by an option: nothing to mark


OPTIMIZERS = {
    "AdamW": partial(torch.optim.AdamW, weight_decay=0.5),
    "AdamW by default": torch.optim.AdamW,
    "Adam with L2": partial(torch.optim.Adam, weight_decay=0.5),
    "SGD": partial(torch.optim.SGD, weight_decay=0.5),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("count", [1, 3])
def test_the_marked_go_as_without_decay_and_the_others_as_with_it(optimizer, count):
    settings = {"seeds": range(count), "steps": 1, "batch": 2, "length": 8, "lr": 0.1}
    settings |= {"device": "cpu"}

    def trained(**changes):
        models = [copy.deepcopy(model(seed)) for seed in range(count)]
        fit_together(models, [TASK] * count, **settings, **changes)
        return models

    method = OPTIMIZERS[optimizer]
    plain = method.func if isinstance(method, partial) else method
    spared = undecayed(model())
    with_marks = trained(optimizer=method)
    everything = trained(optimizer=method, decay="all")
    nothing = trained(optimizer=partial(plain, weight_decay=0.0))
    differing = set()
    for got, decayed, free in zip(with_marks, everything, nothing, strict=True):
        parts = zip(got.named_parameters(), decayed.parameters(), free.parameters(), strict=True)
        for (name, ours), all_decay, no_decay in parts:
            assert torch.equal(ours, no_decay if name in spared else all_decay), name
            if not torch.equal(all_decay, no_decay):
                differing.add(name)
    # Decay makes a difference to what was spared, or this would show nothing.
    assert {"mixers.1.log_A", "mixers.2.initial", "norm.weight"} <= differing


def test_an_optimiser_without_decay_and_unknown_choices():
    settings = {"seed": 0, "steps": 1, "batch": 2, "length": 8, "lr": 0.1, "device": "cpu"}
    one, other = model(), model()
    fit(one, TASK, optimizer=torch.optim.Rprop, **settings)
    fit(other, TASK, optimizer=torch.optim.Rprop, decay="all", **settings)
    assert all(map(torch.equal, one.parameters(), other.parameters()))
    with pytest.raises(ValueError, match="decay is 'none'; it must be one of"):
        fit(model(), TASK, decay="none", **settings)
