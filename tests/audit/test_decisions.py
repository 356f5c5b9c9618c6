"""What a gradient passed straight through a decision sees, against the gradient of the router."""

import pytest
import torch
from numeric import stream

from lab.audit.decisions import pushes
from lab.mixers import RoutedHeads
from lab.model import residual_model
from lab.nn import Router
from lab.tasks import WordProblem, groups
from lab.transitions import MonarchID

GROUP = groups.symmetric(3)
TASK = WordProblem(GROUP, [1, 2, 3], start_token=True)
GIVEN = {"batch": 5, "length": 4}


def model(heads=2, positions=0, read_out="all", **router):
    def mixer(generator):
        turns = [MonarchID(8, d_state=4, generator=generator) for _ in range(heads)]
        chooser = Router(8, heads=heads, balance="none", generator=generator, **router)
        return RoutedHeads(8, turns, router=chooser, read_out=read_out, generator=generator)

    return residual_model(
        TASK, 0, d_model=8, mixer=mixer, layers=1, d_hidden=8, positions=positions
    ).double()


def on_table(one):
    return one.mixer_norms[0](one.embedding)


@pytest.mark.parametrize("heads", [2, 3])
def test_as_decided_it_is_the_gradient_of_the_scores(heads):
    one, seen = model(heads), []
    one.mixers[0].router.offset += torch.linspace(0, 0.1, heads)
    found = pushes(one, TASK, generator=stream(0), **GIVEN)

    def keep(_, __, p):
        p.retain_grad()
        seen.append(p)

    with_hook = one.mixers[0].router.register_forward_hook(keep)
    TASK.loss(one, TASK.sample(**GIVEN, generator=stream(0))).backward()
    with_hook.remove()
    (p,) = seen
    has, lacks = (p + one.mixers[0].router.offset).topk(2).indices.T
    rows = torch.arange(len(p))
    torch.testing.assert_close(found[:, 0], p.grad[rows, lacks] - p.grad[rows, has])


def test_turned_it_is_what_a_model_sees_whose_router_decides_so():
    one = model()
    found = pushes(one, TASK, generator=stream(0), **GIVEN)
    router, token = one.mixers[0].router, 1
    with torch.no_grad():  # scores of the other sign for one token alone
        x = on_table(one)
        wanted = (router.gate.weight @ x.T).T
        wanted[token] = wanted[token].flip(0)
        router.gate.weight.copy_(torch.linalg.lstsq(x, wanted).solution.T)
    # Five tokens in eight dimensions: the scores of all others are what they were.
    again = pushes(one, TASK, generator=stream(0), **GIVEN)
    torch.testing.assert_close(again[token], found[token].flip(0))


def test_a_decision_is_settled_where_only_one_head_can_follow_the_token():
    one = model()
    with torch.no_grad():
        one.mixers[0].C.weight[:, 4:] = 0.0  # nothing of head 2 is read
        one.mixers[0].router.offset += torch.tensor([2.0, 0.0])
    optimiser = torch.optim.Adam(one.parameters(), lr=1e-2)
    for step in range(60):
        optimiser.zero_grad()
        TASK.loss(one, TASK.sample(32, 4, stream(step))).backward()
        one.mixers[0].C.weight.grad[:, 4:] = 0.0
        optimiser.step()
    found = pushes(one, TASK, batch=200, length=4, generator=stream(99))
    assert (found[:3, 1] < 0).all()  # on head 2, which nobody reads, no token stays


def test_the_model_is_what_it_was():
    one = model()
    router, weights = one.mixers[0].router, {k: v.clone() for k, v in one.state_dict().items()}
    pushes(one, TASK, generator=stream(0), **GIVEN)
    assert one.mixers[0].router is router
    assert all(torch.equal(v, weights[k]) for k, v in one.state_dict().items())
    assert all(each.grad is None for each in one.parameters())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"routing": "threshold"}, "is not RoutedHeads with one of several heads a token"),
        ({"read_out": "selected"}, "is not RoutedHeads with one of several heads a token"),
        ({"always": 1}, "is not RoutedHeads with one of several heads a token"),
        ({"heads": 1}, "is not RoutedHeads with one of several heads a token"),
        ({"positions": 6}, "with positions there is no table of tokens"),
    ],
)
def test_other_models_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        pushes(model(**settings), TASK, generator=stream(0), **GIVEN)
