"""GPU kernels against the plain loops: on a GPU if there is one, else in Triton's interpreter."""

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numeric import gap, stream
from scan_cases import CASES, SINGLE, Case, Random, one_matrix
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytest.importorskip("triton")

from lab import scan  # noqa: E402
from lab.scan import gpu, operators  # noqa: E402
from lab.scan.gpu import launch, matrix, pair, selective, softmax  # noqa: E402


@dataclass(frozen=True)
class Kernels:
    """A module of kernels, and what its `backward` is given of inputs and outputs, by position."""

    name: str
    saved: tuple[int, ...]

    @property
    def module(self):
        return import_module(f"lab.scan.gpu.{self.name}")

    def forward(self, inputs, like, chunks):
        """Outputs `like` these in shape and type, each filled with a wrong number before."""
        outputs = [torch.full_like(tensor, 7) for tensor in like]
        self.module.forward(*inputs, *outputs, chunks=chunks)
        return outputs

    def backward(self, grads, inputs, outputs, chunks):
        """The gradients of all inputs."""
        gradients = [torch.full_like(tensor, 7) for tensor in inputs]
        both = [*inputs, *outputs]
        saved = [both[position] for position in self.saved]
        self.module.backward(*grads, *saved, *gradients, chunks=chunks)
        return gradients


KERNELS = {
    "linear_scan": Kernels("linear", saved=(0, 3, 2)),  # a, h, initial
    "matrix_scan": Kernels("matrix", saved=(0, 3, 2)),  # A, h, initial
    "block_scan": Kernels("matrix", saved=(0, 3, 2)),
    "pair_scan": Kernels("pair", saved=(0, 3, 2)),
    "log_scan": Kernels("log", saved=(0, 1, 3, 2)),  # a, b, h, initial
    "tropical_scan": Kernels("tropical", saved=(1, 3, 2)),  # b, h, initial
    # decay, score, value, average, log_norm, and the two parts of the initial state
    "softmax_scan": Kernels("softmax", saved=(0, 1, 2, 5, 6, 3, 4)),
}
COMPILED = [case for case in CASES if case.name in KERNELS]
SELECTIVE = [case for case in CASES if case.name == "selective_scan"]
every_case = pytest.mark.parametrize(
    "case", COMPILED, ids=lambda case: f"{case.name}-{case.draw.__name__}"
)


def arguments(case, *shape, dtype, seed=0):
    """Of the scan; kernels take the tensors among them, in the same order."""
    return tree_map(
        lambda tensor: tensor.to(DEVICE, dtype).contiguous(), case.arguments(dtype, *shape, seed)
    )


@contextmanager
def groups_of(steps):
    """Load so many steps together: these sequences are short, and the interpreter is slow."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (launch, matrix, pair, softmax):
            patch.setattr(module, "GROUP", steps)
        yield


def detached(arguments):
    return [tensor.detach() for tensor in tree_leaves(arguments)]


# Worst gaps in 390 draws: 7.5e-16 and 9.1e-7. The bounds are those of the other forms.
BOUND = {torch.float64: 1e-13, torch.float32: 3e-5}
chunk_counts = st.sampled_from([1, 2, 5])


@every_case
@settings(deadline=None, max_examples=2)
@given(
    B=st.integers(0, 2), T=st.integers(1, 8), N=st.integers(1, 3), chunks=chunk_counts,
    single=st.booleans(), field=st.booleans(), seed=st.integers(0, 2**31),
)  # fmt: skip
@example(B=2, T=7, N=3, chunks=2, single=False, field=True, seed=0)
def test_equals_the_definition_in_value_and_gradient(case, B, T, N, chunks, single, field, seed):
    double = case.dtypes[-1] if field else case.dtypes[0]
    dtype = SINGLE[double] if single else double
    drawn = arguments(case, B, T, N, dtype=dtype, seed=seed)
    for tensor in tree_leaves(drawn):
        tensor.requires_grad_()
    expected = tree_leaves(case.sequential(*drawn))
    smooth = [state for state in expected if state.requires_grad]
    random = Random(dtype, stream(seed))
    grads = [random.normal(*state.shape).to(DEVICE) for state in smooth]
    wanted = torch.autograd.grad(smooth, tree_leaves(drawn), grads, materialize_grads=True)
    kernels, inputs = KERNELS[case.name], detached(drawn)
    with groups_of(3):
        outputs = kernels.forward(inputs, expected, chunks)
        gradients = kernels.backward(grads, inputs, outputs, chunks)
    for actual, right in zip([*outputs, *gradients], [*expected, *wanted], strict=True):
        assert actual.dtype == right.dtype
        assert gap(actual, right.detach()) <= BOUND[dtype.to_real()]


@contextmanager
def selective_kernels():
    """selective_scan with the kernels of this file, whatever the device."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("forward", "backward"):
            operator = operators._LATEST["selective_scan" + "_backward" * (name == "backward")]
            patch.setitem(operator.kernels, DEVICE, getattr(selective, name))
        # So few channels to a program that there are several.
        patch.setattr(selective, "NUMBERS", 4)
        yield


# It has more inputs than states, and takes them as `selective_scan` has turned them.
@pytest.mark.parametrize("case", SELECTIVE, ids=lambda case: case.draw.__name__)
@settings(deadline=None, max_examples=3)
@given(
    B=st.integers(0, 2), T=st.integers(1, 20), N=st.integers(1, 3), single=st.booleans(),
    often=st.sampled_from([0.0, 0.3]), seed=st.integers(0, 2**31),
)  # fmt: skip
@example(B=2, T=19, N=3, single=False, often=0.3, seed=0)
def test_selective_scan_equals_its_definition(case, B, T, N, single, often, seed):
    dtype = torch.float32 if single else torch.float64
    drawn = [part.requires_grad_() for part in arguments(case, B, T, N, dtype=dtype, seed=seed)]
    reset = (torch.rand(B, T, generator=stream(seed)) < often).to(DEVICE) if often else None
    flags = {"time_first": True, "return_last_state": True, "reset": reset, "initial": drawn[-1]}
    flags |= {"delta_softplus": len(drawn) > 6}
    expected = scan.selective_scan_sequential(*drawn[:-1], **flags)
    grads = [
        torch.randn(each.shape, generator=stream(1), dtype=dtype).to(DEVICE) for each in expected
    ]
    wanted = torch.autograd.grad(expected, drawn, grads)
    with selective_kernels():
        outputs = scan.selective_scan(*drawn[:-1], **flags)
        gradients = torch.autograd.grad(outputs, drawn, grads)
    for actual, right in zip([*outputs, *gradients], [*expected, *wanted], strict=True):
        assert gap(actual.detach(), right.detach()) <= BOUND[dtype]


@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize("case", {case.name: case for case in COMPILED}.values())
def test_nan_spoils_nothing_before_it(case, chunks):
    drawn = arguments(case, 1, 7, 2, dtype=torch.float64)
    right, *others = tree_leaves(case.sequential(*drawn))
    inputs = tree_leaves(drawn)
    # The input of step 4, which every scan takes after the gain.
    inputs[1][:, 4] = torch.nan
    states, *_ = KERNELS[case.name].forward(inputs, [right, *others], chunks)
    assert gap(states[:, :4], right[:, :4]) <= BOUND[torch.float64]
    assert states[:, 4].isnan().all()


# Time cut into chunks multiplies gains that no state has met. NumPy, in place of a GPU, warns.
@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")
@pytest.mark.parametrize("chunks", [1, 2, 5])
@pytest.mark.parametrize("name", ["linear_scan", "matrix_scan", "pair_scan"])
def test_gains_of_any_size(name, chunks):
    case = next(case for case in COMPILED if case.name == name)
    gains, b, initial = arguments(case, 1, 40, 2, dtype=torch.float32)
    b[:, :-1], initial[:] = 0, 0
    drawn = [1e3 * gains, b, initial]
    for tensor in drawn:
        tensor.requires_grad_()
    h = case.sequential(*drawn)
    grad = torch.zeros_like(h)
    grad[:, 0] = 1
    wanted = torch.autograd.grad(h, drawn, grad)
    kernels, inputs = KERNELS[name], detached(drawn)
    with groups_of(3):
        outputs = kernels.forward(inputs, [h], chunks)
        gradients = kernels.backward([grad], inputs, outputs, chunks)
    for actual, right in zip([*outputs, *gradients], [h, *wanted], strict=True):
        assert gap(actual, right.detach()) <= BOUND[torch.float32]


def test_matrices_too_wide_for_the_registers():
    N = matrix.WIDEST + 1
    case = Case(one_matrix, "matrix_scan")
    drawn = arguments(case, 1, 3, N, dtype=torch.float64)
    for tensor in drawn:
        tensor.requires_grad_()
    h = case.sequential(*drawn)
    kernels, inputs = KERNELS[case.name], detached(drawn)
    outputs = kernels.forward(inputs, [h], None)
    gradients = kernels.backward([torch.ones_like(h)], inputs, outputs, None)
    wanted = torch.autograd.grad(h.sum(), drawn)
    for actual, right in zip([*outputs, *gradients], [h, *wanted], strict=True):
        assert gap(actual, right.detach()) <= BOUND[torch.float64]


@given(walks=st.integers(0, 10**6), T=st.integers(1, 10**6), processors=st.integers(1, 200))
def test_time_is_cut_only_where_threads_are_scarce(walks, T, processors):
    chunks = launch.chunk_count(walks, T, processors)
    assert chunks == 1 or T // chunks >= launch.SHORTEST
    assert chunks == 1 or walks < launch.ENOUGH * processors
    assert chunks <= launch.chunk_count(walks, T + 1, processors)
    # Cut for one wave of threads and no more.
    assert (chunks - 1) * walks < launch.WANTED * processors


def test_chunks_suit_shapes_of_every_kind():
    count = lambda *shape: launch.chunk_count(*shape, processors=132)  # noqa: E731
    assert count(0, 1000) == 1
    assert count(8 * 4096, 4096) == 1
    assert count(256, 4096) == 4096 // launch.SHORTEST
    assert count(8 * 256, 100_000) == 33
    assert count(1, 63) == 1


def test_chunks_each_hold_a_step():
    for T in range(1, 30):
        for chunks in range(1, 10):
            cut = launch.Cut.of(torch.empty(1, T, 1), chunks)
            assert cut.span * (cut.chunks - 1) < T <= cut.span * cut.chunks


@pytest.mark.skipif(DEVICE == "cuda", reason="with a GPU the kernels are there, and imported")
def test_without_a_gpu_there_are_no_kernels_and_triton_is_not_imported():
    assert gpu.kernels("linear") == {}
    code = "import sys, lab.scan; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def compile_all() -> None:
    """Compile what every kernel is started with, for a GPU that need not be there."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    pointers = {torch.float32: "*fp32", torch.int64: "*i64", torch.bool: "*i1"}
    compiled = set()

    def instead(kernel, programs, *given, num_warps=4, **constants):
        named = dict(zip(kernel.arg_names, given, strict=False))
        types = {
            name: pointers[value.dtype] if isinstance(value, torch.Tensor) else "i32"
            for name, value in named.items()
        }
        types |= dict.fromkeys(constants, "constexpr")
        options = {"num_warps": num_warps, "enable_fp_fusion": True}
        triton.compile(
            ASTSource(kernel, types, constants), target=GPUTarget("cuda", 80, 32), options=options
        )
        compiled.add((kernel.fn.__module__, kernel.fn.__name__))

    for module in [launch, selective, *(kernels.module for kernels in KERNELS.values())]:
        module.launch = instead
    # Nothing is computed here, and a winner of no step would be looked up.
    torch.Tensor.gather = lambda tensor, *_: tensor
    for case in {case.name: case for case in COMPILED}.values():
        drawn = arguments(case, 1, 5, 3, dtype=torch.float32)
        kernels, inputs = KERNELS[case.name], tree_leaves(drawn)
        with groups_of(2):
            outputs = kernels.forward(inputs, tree_leaves(case.sequential(*drawn)), chunks=2)
            grads = [output for output in outputs if output.is_floating_point()]
            kernels.backward(grads, inputs, outputs, chunks=2)
    for case in SELECTIVE:
        drawn = [part.requires_grad_() for part in arguments(case, 1, 5, 3, dtype=torch.float32)]
        flags = {"time_first": True, "delta_softplus": len(drawn) > 6, "initial": drawn[-1]}
        flags["reset"] = torch.ones(1, 5, dtype=torch.bool) if len(drawn) > 6 else None
        with selective_kernels():
            scan.selective_scan(*drawn[:-1], **flags).sum().backward()
    print(*sorted(".".join(name) for name in compiled), sep="\n")


def test_kernels_compile_for_a_gpu_that_is_not_here():
    backends = import_module("triton.backends").backends
    if "nvidia" not in backends:
        pytest.skip("this build of Triton has no compiler for NVIDIA GPUs")
    done = subprocess.run(
        [sys.executable, "-c", "import test_scan_gpu; test_scan_gpu.compile_all()"],
        cwd=Path(__file__).parent,
        env={
            **os.environ, "TRITON_INTERPRET": "0",
            "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[1:3])),
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    compiled = {line.split(".")[3] for line in done.stdout.split()}
    assert compiled == {"selective", *(kernels.name for kernels in KERNELS.values())}
