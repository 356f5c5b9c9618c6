"""A model of tokens: its forms, its counts, and that several of them train together."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from numeric import gap, stream
from torch import nn
from transition_cases import Dense

from lab.mixers import StateSpace, look_up, unroll
from lab.mixers.state_space import FEW
from lab.model import SequenceModel, SwiGLU, residual_model
from lab.nn import linear
from lab.seeding import stream as seeded

VOCABULARY, CLASSES, D = 5, 7, 8


def model(layers=2, *, channels=True, positions=0, norm="rms", seed=0, **options):
    generator = stream(seed)
    mixers = [
        StateSpace(D, Dense(D, d_state=3, generator=generator), generator=generator, **options)
        for _ in range(layers)
    ]
    wide = [SwiGLU(D, 12, generator=generator) for _ in range(layers)] if channels else None
    return SequenceModel(
        VOCABULARY, CLASSES, D, mixers, channels=wide, positions=positions, norm=norm,
        generator=generator,
    ).double()  # fmt: skip


def tokens(B=3, T=9):
    return torch.randint(VOCABULARY, (B, T), generator=stream(0))


OPTIONS = [
    {"layers": layers, "channels": channels, "positions": positions, "norm": norm}
    for layers, channels, positions, norm in itertools.product(
        (1, 2), (False, True), (0, 9), ("rms", "layer")
    )
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_scores_are_those_of_the_step_form(options):
    examined = model(**options)
    scores = examined(tokens())
    assert scores.shape == (3, 9, CLASSES)
    assert gap(scores, unroll(examined, tokens())) < 1e-10


def test_the_scores_follow_from_the_definition():
    examined = model(layers=2)
    u = examined.embedding[tokens()]
    for mixer, norm, channel, channel_norm in zip(
        examined.mixers, examined.mixer_norms, examined.channels, examined.channel_norms,
        strict=True,
    ):  # fmt: skip
        u = u + mixer(norm(u))
        u = u + channel(channel_norm(u))
    assert gap(examined(tokens()), examined.head(examined.norm(u))) < 1e-12


def test_parameters_are_counted_as_stated():
    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    N = 3
    transition = (D + 1) * N**2
    assert count(model(1).mixers[0]) == transition + (D + 1) * N + (N + 1) * D
    without_bias = model(1, readout_bias=False, skip=True, learn_initial=True).mixers[0]
    assert count(without_bias) == transition + (D + 1) * N + N + N * D + D
    assert count(SwiGLU(D, 12)) == 3 * D * 12
    whole = VOCABULARY * D + count(model(1).mixers[0]) + 3 * D * 12 + 3 * D + (D + 1) * CLASSES
    assert count(model(1)) == whole


def test_states_and_eigenvalues_are_those_of_a_layer():
    examined = model()
    assert examined.states(tokens(), layer=1).shape == (3, 9, 3)
    x = examined.mixer_inputs(tokens(), layer=1)
    found = examined.eigenvalues(tokens(), layer=1)
    expected = torch.linalg.eigvals(examined.mixers[1].transition(x))
    assert gap(found.sum(-1), expected.sum(-1)) < 1e-12


def test_the_same_stream_gives_the_same_model():
    assert all(map(torch.equal, model().parameters(), model().parameters()))
    assert not torch.equal(model().embedding, model(seed=1).embedding)


@pytest.mark.parametrize("rows", [VOCABULARY, FEW + 1])
def test_a_looked_up_row_is_the_row_and_sends_its_gradient_there(rows):
    table = torch.randn(rows, 2, 3, dtype=torch.float64, generator=stream(0))
    table.requires_grad_()
    found = look_up(table, tokens())
    assert torch.equal(found, table[tokens()])
    weights = torch.randn(found.shape, dtype=found.dtype, generator=stream(1))
    (actual,) = torch.autograd.grad((weights * found).sum(), table)
    places, each = tokens().flatten(), weights.flatten(0, 1)
    assert gap(actual, torch.zeros_like(table).index_add(0, places, each)) < 1e-12


@pytest.mark.parametrize("rows", [VOCABULARY, FEW + 1])
def test_rows_are_looked_up_in_tables_side_by_side(rows):
    tables = torch.randn(2, rows, 3, dtype=torch.float64, generator=stream(0)).requires_grad_()
    both = torch.stack([tokens(), tokens().flip(0)])
    weights = torch.randn(*both.shape, 3, dtype=torch.float64, generator=stream(1))
    found = torch.vmap(look_up)(tables, both)
    (slopes,) = torch.autograd.grad((weights * found).sum(), tables)
    for lane, places in enumerate(both):
        assert torch.equal(found[lane], tables[lane][places])
        expected = torch.zeros_like(tables[lane])
        expected = expected.index_add(0, places.flatten(), weights[lane].flatten(0, 1))
        assert gap(slopes[lane], expected) < 1e-12


class Pairs(SequenceModel):
    """A token is a pair of digits, each with an embedding of its own."""

    def embedded(self, tokens):
        return look_up(self.embedding, tokens // 2) + look_up(self.embedding, 3 + tokens % 2)


def test_a_subclass_may_put_embeddings_together():
    generator = stream(0)
    mixer = StateSpace(D, Dense(D, d_state=3, generator=generator), generator=generator)
    examined = Pairs(VOCABULARY, CLASSES, D, [mixer], generator=generator).double()
    u = examined.embedding[tokens() // 2] + examined.embedding[3 + tokens() % 2]
    u = u + mixer(examined.mixer_norms[0](u))
    assert gap(examined(tokens()), examined.head(examined.norm(u))) < 1e-12
    assert gap(examined(tokens()), unroll(examined, tokens())) < 1e-10


def test_a_dense_layer_is_drawn_as_torch_draws_it():
    layer = linear(100, 400, generator=stream(0))
    for parameter in layer.parameters():
        assert parameter.abs().max() <= 0.1
        assert parameter.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.1)
    assert linear(3, 4, bias=False).bias is None


def test_later_steps_may_share_the_last_position():
    examined, few = model(positions=9), model(positions=4)
    few.shared_last = True
    positions = few.positions[[0, 1, 2, 3, 3, 3, 3, 3, 3]]
    examined.load_state_dict(few.state_dict() | {"positions": positions})
    assert gap(few(tokens()), examined(tokens())) < 1e-12
    assert gap(unroll(few, tokens()), examined(tokens())) < 1e-12


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="9 steps, and there are positions for 4 at most"):
        model(positions=4)(tokens())
    with pytest.raises(ValueError, match="norm is 'batch'; it must be one of"):
        SequenceModel(2, 2, D, [], norm="batch")
    with pytest.raises(ValueError, match="1 mixers and 2 channels: give one of each"):
        SequenceModel(2, 2, D, [nn.Identity()], channels=[SwiGLU(D, 2), SwiGLU(D, 2)])
    with pytest.raises(ValueError, match="drive and learn_initial are both False"):
        StateSpace(D, Dense(D, d_state=3, generator=stream(0)), drive=False)


def test_tokens_that_are_none_are_named():
    examined = model()
    for method in ("forward", "states", "eigenvalues", "mixer_inputs"):
        call = getattr(examined, method)
        with pytest.raises(ValueError, match=r"^SequenceModel: tokens has shape \(3, 0\); it"):
            call(tokens(T=0))
        with pytest.raises(ValueError, match=r"^SequenceModel: tokens are torch.float32; they"):
            call(tokens().float())
    with pytest.raises(ValueError, match=r"tokens has shape \(3, 9\); it must be \(B\)"):
        examined.step(tokens())
    with pytest.raises(TypeError, match="tokens must be a tensor"):
        examined([[1, 2]])


def test_a_residual_model_is_drawn_from_one_stream_mixers_first():
    def mixer(generator):
        return StateSpace(D, Dense(D, d_state=3, generator=generator), generator=generator)

    sizes = SimpleNamespace(vocabulary=VOCABULARY, classes=CLASSES)
    found = residual_model(sizes, 3, d_model=D, mixer=mixer, layers=2, d_hidden=12, positions=9)
    generator = seeded(3, "init")
    mixers = [mixer(generator) for _ in range(2)]
    channels = [SwiGLU(D, 12, generator=generator) for _ in range(2)]
    expected = SequenceModel(
        VOCABULARY, CLASSES, D, mixers, channels=channels, positions=9, generator=generator
    )
    assert found.state_dict().keys() == expected.state_dict().keys()
    assert all(map(torch.equal, found.parameters(), expected.parameters()))
    assert not residual_model(sizes, 3, d_model=D, mixer=mixer, layers=1).channels
