"""torch.compile around the losses of models side by side, whose layers run compiled scans."""

import pytest
import torch
from torch.nn.functional import linear, softplus
from training_cases import MIXERS

from lab.model import SequenceModel
from lab.seeding import stream
from lab.tasks import Batch, WordProblem, groups

# Where the gradient that arrives at a softplus is transposed, so is the one that it sends on. A
# traced graph expects the latter to lie in memory as the input does, and asks for a view that there
# is not; the last test is all it takes.
of_softplus = pytest.mark.xfail(
    raises=RuntimeError, strict=True, reason="torch's traced gradient of softplus has other strides"
)


def problem(kind):
    """The losses of two models as a function of parameters and examples, and both."""
    S3 = groups.symmetric(3)
    task = WordProblem(S3, S3.indices(groups.transpositions(3)))
    models = []
    for seed in range(2):
        g = stream(seed, "init")
        mixer = MIXERS[kind](g)
        models.append(SequenceModel(task.vocabulary, task.classes, 8, [mixer], generator=g))
    parameters, buffers = torch.func.stack_module_state(models)
    drawn = [task.sample(3, 6, stream(seed, "data")) for seed in range(2)]
    examples = Batch(*(torch.stack(parts) for parts in zip(*drawn, strict=True)))

    def loss(parameters, buffers, examples):
        state = {**parameters, **buffers}
        call = torch.func.functional_call
        return task.loss(lambda *inputs: call(models[0], state, inputs), examples)

    return torch.vmap(loss), (parameters, buffers, examples)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=of_softplus if kind == "slots" else ()) for kind in MIXERS]
)
def test_torch_compile_takes_models_side_by_side_whole(kind):
    torch.compiler.reset()  # the graphs of one function have a limit, and vmap's are all of one
    losses, arguments = problem(kind)
    compiled = torch.compile(losses, backend="aot_eager", fullgraph=True)
    parameters = list(arguments[0].values())
    expected, actual = losses(*arguments), compiled(*arguments)
    assert torch.equal(actual, expected)
    gradients = torch.autograd.grad(actual.sum(), parameters)
    for one, other in zip(gradients, torch.autograd.grad(expected.sum(), parameters), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@of_softplus
def test_torch_compile_takes_the_gradient_of_a_softplus_that_is_transposed():
    weight, x = torch.randn(3, 4, requires_grad=True), torch.randn(6, 5, 4)
    decay = torch.compile(lambda w: softplus(linear(x, w)).mT.contiguous(), backend="aot_eager")
    decay(weight).sum().backward()
