"""Costs of a training against arithmetic by hand, and the published size of experiment 100."""

from functools import partial

import pytest
import torch
from torch import nn

from lab.benchmark.training_cost import A100, GIB, H100, Accelerator, TrainingCost, training_cost
from lab.mixers.kuramoto_bank import KuramotoBank
from lab.model import FeedForward, SequenceModel

V, D, B, T = 11, 6, 4, 5
PARAMETERS = 2 * V * D


class Bigram(nn.Module):
    """Logits from the embedding of the token alone."""

    vocabulary = V

    def __init__(self):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(V, D))
        self.head = nn.Linear(D, V, bias=False)

    def forward(self, tokens):
        return self.head(self.embedding[tokens])


def kuramoto(*, D=384, L=6, N=192, n_h=32, V=100_277, positions=1024):
    """K-SSM v3, at the published size by default."""
    return SequenceModel(
        V, V, D, [KuramotoBank(D, d_state=N, harmonics=n_h) for _ in range(L)],
        channels=[FeedForward(D, 4 * D) for _ in range(L)], positions=positions, norm="layer",
        tied=True,
    )  # fmt: skip


def test_products_take_six_operations_a_weight_and_token():
    cost = training_cost(Bigram, batch=B, length=T, updates=7)
    assert (cost.parameters, cost.updates, cost.tokens) == (PARAMETERS, 7, B * T)
    assert cost.flops == 6 * B * T * V * D  # forward, and two gradients


def test_peak_memory_is_that_of_the_widest_step_of_the_backward_pass():
    # Weights and two moments; the embedded tokens; log-probabilities, their gradient and that of
    # the logits; the tokens. Besides, a few numbers.
    expected = 4 * (3 * PARAMETERS + B * T * D + 3 * B * T * V) + 8 * B * T
    cost = training_cost(Bigram, batch=B, length=T, updates=1)
    assert expected <= cost.peak <= expected + 64
    # Two passes: gradients of the first are kept, and all that depends on the batch is halved.
    halved = 4 * (4 * PARAMETERS + B * T * D // 2 + 3 * B * T * V // 2) + 4 * B * T
    cost = training_cost(Bigram, batch=B, length=T, updates=1, accumulated=2)
    assert halved <= cost.peak <= halved + 64


def test_passes_share_the_arithmetic_and_repeat_what_each_of_them_moves():
    one, two = (training_cost(Bigram, batch=B, length=T, updates=1, accumulated=n) for n in (1, 2))
    assert one.flops == two.flops
    assert one.tokens == two.tokens
    assert one.moved < two.moved < 2 * one.moved


def test_bytes_are_those_of_inputs_and_outputs_of_what_is_no_view():
    class Sum(nn.Module):
        vocabulary = D

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(D))

        def forward(self, tokens):
            return self.weight.expand(*tokens.shape, D) + self.weight

    moved = training_cost(Sum, batch=B, length=T, updates=1).operations
    # The sum reads two rows of D numbers, one of them repeated by a view, and writes B T D.
    assert moved[0, 4 * (2 * D + B * T * D)] == 1
    assert moved[0, 7 * 4 * D] == 1  # Adam's
    assert not any(flops for flops, _ in moved)


def test_time_is_that_of_arithmetic_or_of_memory_whichever_is_longer():
    cost = TrainingCost(
        parameters=1, updates=10, tokens=1, flops=600, moved=60, peak=2 * GIB,
        operations={(200, 20): 2, (200, 0): 1, (0, 20): 1},
    )  # fmt: skip
    gpu = Accelerator("slow", flops=100, bandwidth=5, memory=4 * GIB)
    assert cost.seconds(gpu) == pytest.approx(10 * (2 * 4 + 2 + 4))
    shown = cost.on(gpu)
    assert shown["peak memory, GiB"] == 2
    assert shown["share of the memory of slow"] == 0.5
    assert shown["hours on slow, at least"] == pytest.approx(140 / 3600)
    assert shown["FLOP, all updates"] == 6000


def flops_of_products(D, L, n_h, V):
    """Six operations a weight of all matrices. Positions and norms are no products."""
    return 6 * (V * D + L * (10 * D + 3 * n_h * D + 8 * D * D))


def test_a_small_vocabulary_costs_a_product_for_its_embeddings():
    sizes = {"D": 8, "L": 2, "n_h": 3}
    few, many = (
        training_cost(
            partial(kuramoto, V=V, N=5, positions=T, **sizes), batch=B, length=T, updates=1
        )
        for V in (100, 2000)
    )
    assert many.flops == B * T * flops_of_products(V=2000, **sizes)
    # One-hot vectors times embeddings, forwards, and their transpose times gradients.
    assert few.flops == B * T * (flops_of_products(V=100, **sizes) + 4 * 100 * 8)


def test_the_published_size():
    cost = training_cost(kuramoto, batch=32, length=512, updates=100_000, accumulated=4)
    assert cost.parameters == 46_246_722
    assert cost.tokens == 32 * 512
    per_token = flops_of_products(D=384, L=6, n_h=32, V=100_277)
    assert cost.flops == cost.tokens * per_token
    # The usual estimate, six operations a parameter, counts the positions as well: 1 % more.
    assert cost.flops == pytest.approx(6 * cost.parameters * cost.tokens, rel=0.02)
    # Log-probabilities and two gradients of their size alone, and the Adam's 16 bytes a parameter.
    logits = 4 * (cost.tokens // 4) * 100_277
    assert 3 * logits + 16 * cost.parameters < cost.peak < 0.25 * A100.memory
    assert 0 < cost.seconds(H100) < cost.seconds(A100)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [({"batch": 5, "accumulated": 2}, "batch is 5; it must be a multiple of 2"),
     ({"updates": 0}, "updates is 0; it must be at least 1"),
     ({"length": 2.5}, "length is 2.5; it must be a whole number")],
)  # fmt: skip
def test_numbers_that_are_no_sizes_are_named(changed, sentence):
    with pytest.raises(ValueError, match=sentence):
        training_cost(Bigram, **{"batch": B, "length": T, "updates": 1, **changed})
