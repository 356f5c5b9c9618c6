"""Generated tokens: the step form with a state gives what recomputing from the prefix gives."""

import math

import pytest
import torch
from numeric import gap, stream
from transition_cases import Dense

from lab.memories import SoftmaxAttention
from lab.mixers import Mamba, MultiHead, StateSpace
from lab.model import FeedForward, SequenceModel, draw_token, generate
from lab.seeding import stream as seeded
from lab.tasks import NGrams

V, D = 11, 8
MIXERS = {
    "state space": lambda g: StateSpace(D, Dense(D, d_state=3, generator=g), generator=g),
    "attention": lambda g: MultiHead(D, SoftmaxAttention(D, heads=2, d_key=4), generator=g),
    "Mamba": lambda g: Mamba(D, d_state=3, convolution=3, generator=g),
}


def model(name="attention", positions=20, tied=True):
    generator = stream(0)
    mixers = [MIXERS[name](generator) for _ in range(2)]
    channels = [FeedForward(D, 12, generator=generator) for _ in mixers]
    made = SequenceModel(
        V, V, D, mixers, channels=channels, positions=positions, norm="layer", tied=tied,
        generator=generator,
    ).double()  # fmt: skip
    with torch.no_grad():  # predictions that are far from uniform, and depend on the past
        for parameter in made.parameters():
            noise = torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator)
            parameter += 0.5 * noise
    return made


def prompt(B=4, P=3):
    return torch.randint(V, (B, P), generator=stream(1))


def recomputed(model, prompt, *, length, temperature, top_k, seed):
    """From the whole prefix, anew for every token."""
    generator, tokens = seeded(seed, "generation"), prompt
    for _ in range(length):
        logits = model(tokens)[:, -1]
        drawn = draw_token(logits, temperature, top_k, generator)
        tokens = torch.cat([tokens, drawn[:, None]], dim=1)
    return tokens[:, prompt.shape[1] :]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("temperature", "top_k"), [(0, None), (1.0, None), (0.7, 3), (2.0, 50)])
@pytest.mark.parametrize("name", MIXERS)
def test_steps_with_a_state_give_what_the_prefix_gives(name, temperature, top_k, tied):
    examined = model(name, tied=tied)
    settings = {"length": 17, "temperature": temperature, "top_k": top_k, "seed": 5}
    found = generate(examined, prompt(), **settings)
    assert found.shape == (4, 17)
    assert found.tolist() == recomputed(examined, prompt(), **settings).tolist()
    # Rows share no draws, and there is a past to forget.
    assert len(set(map(tuple, found.tolist()))) > 1
    assert gap(examined(prompt())[:, -1], examined(prompt()[:, 1:])[:, -1]) > 0.01


def test_a_seed_decides_the_draws():
    first, again, other = (generate(model(), prompt(), length=9, seed=s) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_draws_have_the_shares_of_the_softmax():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).expand(40_000, -1)
    for temperature, top_k, kept in ((1.0, None, 4), (0.5, None, 4), (2.0, 2, 2), (1.0, 1, 1)):
        drawn = draw_token(logits, temperature, top_k, stream(0))
        found = torch.bincount(drawn, minlength=4) / 40_000
        weights = [math.exp(logit / temperature) if i < kept else 0.0
                   for i, logit in enumerate((2, 1, 0, -1))]  # fmt: skip
        expected = torch.tensor(weights) / sum(weights)
        # Four standard deviations of a share.
        assert ((found - expected).abs() <= 4 * (expected * (1 - expected) / 40_000).sqrt()).all()
    assert draw_token(logits[:1], 0.0, None, stream(0)).tolist() == [0]


def test_counts_of_n_grams_generate_what_they_have_seen():
    counts = NGrams(b"abcdefgh" * 20, order=3)
    said = generate(counts, torch.tensor([list(b"ab")]), length=10, temperature=0, seed=0)
    assert bytes(said[0].tolist()) == b"cdefghabcd"


def test_nothing_to_generate_is_nothing():
    assert generate(model(), prompt(), length=0, seed=0).shape == (4, 0)
    assert not generate(model(), prompt(), length=1, seed=0).requires_grad


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"length": -1}, "generate: length is -1; it must be at least 0"),
        ({"temperature": -0.5}, r"generate: temperature is -0\.5; it must be at least 0"),
        ({"temperature": math.inf}, "temperature is inf; it must be finite"),
        ({"top_k": 0}, "generate: top_k is 0; it must be at least 1"),
        ({"prompt": torch.zeros(2, 0, dtype=torch.int64)}, "at least one token P"),
        ({"prompt": torch.zeros(2, 3)}, r"prompt is 'torch.float32 \(2, 3\)'; it must be"),
        ({"prompt": torch.zeros(3, dtype=torch.int64)}, r"it must be torch\.int64 \(B, P\)"),
        ({"length": 19}, "21 steps, and there are positions for 20 at most"),
    ],
)
def test_what_does_not_fit_is_named(changed, sentence):
    settings = {"prompt": prompt(), "length": 18, "seed": 0} | changed
    with pytest.raises(ValueError, match=sentence):
        generate(model(), settings.pop("prompt"), **settings)


def test_a_prompt_of_text_is_named():
    with pytest.raises(TypeError, match="prompt is a str; it must be a tensor"):
        generate(model(), "def", length=1, seed=0)


# --- tied embeddings -----------------------------------------------------------------------------


def test_logits_of_a_tied_model_are_products_with_the_embeddings():
    tied = model()
    tokens = prompt(2, 9)
    u = tied.norm(tied._stream(tokens, 2))
    assert gap(tied(tokens), torch.einsum("btd,vd->btv", u, tied.embedding)) < 1e-12
    assert not any(name.startswith("head") for name, _ in tied.named_parameters())


def test_what_cannot_be_tied_is_named():
    for given in ({"classes": 3}, {"classes": V, "head": torch.nn.Identity()}):
        with pytest.raises(ValueError, match="a tied model has as many classes as tokens, and no"):
            SequenceModel(V, d_model=D, mixers=[], tied=True, **given)


def test_a_transformer_of_the_published_form_has_as_many_parameters_as_its_formula():
    """D (V + T) + L (12 D^2 + 13 D) + 2 D: 260,736 at the sizes of experiment 100."""
    generator, D, L, T = stream(0), 96, 2, 128
    attention = [
        MultiHead(D, SoftmaxAttention(D, heads=4, d_key=24), bias=True, generator=generator)
        for _ in range(L)
    ]
    channels = [FeedForward(D, 4 * D, generator=generator) for _ in range(L)]
    transformer = SequenceModel(
        256, 256, D, attention, channels=channels, positions=T, norm="layer", tied=True
    )
    assert sum(parameter.numel() for parameter in transformer.parameters()) == 260_736
