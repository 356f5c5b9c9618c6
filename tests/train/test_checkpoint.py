"""A loaded checkpoint equals the saved one bit for bit, and that of another run is refused."""

import math
import re

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.mixers import OscDPLR
from lab.tasks import AnonymousOscillations, KnownOscillators
from lab.train.checkpoint import Checkpoint, describe

DTYPES = [
    torch.float32, torch.float64, torch.bfloat16, torch.complex64, torch.complex128,
    torch.int64, torch.uint8, torch.bool,
]  # fmt: skip
IDENTITY = {"steps": 3, "rates": {"P": 0.1, "Q": 0.2}, "seeds": [0, 1]}
shapes = st.lists(st.integers(0, 3), max_size=3)
names = st.text(min_size=1, max_size=8)


def random(shape, dtype):
    generator = torch.Generator().manual_seed(len(shape))
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)


@settings(deadline=None, max_examples=50)
@given(
    contents=st.dictionaries(names, st.tuples(shapes, st.sampled_from(DTYPES)), max_size=5),
    identity=st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3),
)
def test_what_is_loaded_is_what_was_saved(tmp_path_factory, contents, identity):
    path = tmp_path_factory.mktemp("checkpoint") / "run.safetensors"
    state = {name: random(shape, dtype) for name, (shape, dtype) in contents.items()}
    Checkpoint(path, identity, 0.0).save(state)
    found = Checkpoint(path, identity, 0.0).load()
    assert found.keys() == state.keys()
    for name, value in state.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


VIEWS = {
    "transposed": lambda x: x.mT,
    "strided": lambda x: x[::2],
    "expanded": lambda x: x[:1].expand(4, -1),
    "conjugate": lambda x: x.conj(),
    "adjoint": lambda x: x.mH,
    "imaginary part of a conjugate": lambda x: x.conj().imag,
    "parameter": lambda x: torch.nn.Parameter(x),
}


@pytest.mark.parametrize("view", VIEWS)
def test_views_are_saved_by_their_values(tmp_path, view):
    whole = torch.randn(4, 3, dtype=torch.complex128)
    checkpoint = Checkpoint(tmp_path / "run.safetensors", IDENTITY, 0.0)
    state = {"view": VIEWS[view](whole), "whole": whole.clone()}
    checkpoint.save(state)
    for name, found in checkpoint.load().items():
        assert torch.equal(found, state[name])


@pytest.mark.parametrize("shift", range(4))
def test_what_is_loaded_lies_where_arithmetic_may_touch_it(tmp_path, shift):
    # Complex numbers at an address that is no multiple of their size crash the process.
    checkpoint = Checkpoint(tmp_path / "run.safetensors", {"text": " " * 8 * shift}, 0.0)
    checkpoint.save({"a": torch.ones(1), "b": torch.ones(3, dtype=torch.complex128)})
    assert checkpoint.load()["b"].data_ptr() % 16 == 0


def test_what_is_loaded_outlives_its_file(tmp_path):
    path = tmp_path / "run.safetensors"
    checkpoint = Checkpoint(path, IDENTITY, 0.0)
    checkpoint.save({"a": torch.arange(5000)})
    found = checkpoint.load()
    path.write_bytes(b"")  # a mapping of the file would be gone
    assert torch.equal(found["a"], torch.arange(5000))


def test_no_file_and_no_path_mean_nothing_saved(tmp_path):
    assert Checkpoint(tmp_path / "run.safetensors", IDENTITY, 0.0).load() == {}
    assert Checkpoint(None, IDENTITY, 0.0).load() == {}
    assert not Checkpoint(None, IDENTITY, 0.0).due(last=True)


def test_a_save_is_due_after_its_seconds_and_at_the_end(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr("lab.train.checkpoint.time.perf_counter", lambda: now)
    checkpoint = Checkpoint(tmp_path / "run.safetensors", IDENTITY, 30.0)
    assert not checkpoint.due(last=False)
    assert checkpoint.due(last=True)
    now = 130.0
    assert checkpoint.due(last=False)
    checkpoint.save({})
    assert not checkpoint.due(last=False)
    assert not Checkpoint(checkpoint.path, IDENTITY, math.inf).due(last=False)


OTHERS = [
    ({**IDENTITY, "steps": 4}, "steps is 3 there and 4 here"),
    ({**IDENTITY, "rates": {"P": 0.1, "Q": 0.3}}, "rates.Q is 0.2 there and 0.3 here"),
    ({**IDENTITY, "rates": {"P": 0.1}}, "rates.Q is 0.2 there and None here"),
    ({**IDENTITY, "rates": 0.1}, "rates is {'P': 0.1, 'Q': 0.2} there and 0.1 here"),
    ({**IDENTITY, "seeds": [0]}, "seeds is [0, 1] there and [0] here"),
    ({**IDENTITY, "new": "a"}, "new is None there and a here"),
    ({"steps": 3, "seeds": [0, 1]}, "rates is {'P': 0.1, 'Q': 0.2} there and None here"),
]


@pytest.mark.parametrize(("identity", "difference"), OTHERS)
def test_another_run_is_refused_with_the_first_difference(tmp_path, identity, difference):
    path = tmp_path / "run.safetensors"
    Checkpoint(path, IDENTITY, 0.0).save({"a": torch.ones(1)})
    sentence = (
        f"{path} is of another model or other settings ({difference}): "
        "delete it to start afresh, or name another checkpoint"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Checkpoint(path, identity, 0.0).load()


def test_tuples_and_lists_are_the_same_setting(tmp_path):
    path = tmp_path / "run.safetensors"
    Checkpoint(path, {"lengths": (8, 5)}, 0.0).save({"a": torch.ones(1)})
    assert "a" in Checkpoint(path, {"lengths": [8, 5]}, 0.0).load()


@pytest.mark.parametrize("metadata", [None, {"author": "another program"}])
def test_a_file_of_another_program_is_refused(tmp_path, metadata):
    path = tmp_path / "run.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, path, metadata)
    with pytest.raises(ValueError, match="this workspace did not write it"):
        Checkpoint(path, IDENTITY, 0.0).load()


def cut(content):
    return content[: len(content) // 2]


def cut_by_one(content):
    return content[:-1]


def without_header(content):
    return content[8:]


def emptied(_content):
    return b""


def text(_content):
    return b"this is no checkpoint"


@pytest.mark.parametrize("damage", [cut, cut_by_one, without_header, emptied, text])
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "run.safetensors"
    checkpoint = Checkpoint(path, IDENTITY, 0.0)
    checkpoint.save({"a": torch.ones(100)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"{path} is damaged \(.*\): delete it to start afresh"):
        checkpoint.load()


def test_a_path_that_cannot_be_a_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path} is not a file"):
        Checkpoint(tmp_path, IDENTITY, 0.0).load()
    with pytest.raises(FileNotFoundError, match=f"there is no folder {tmp_path}/missing"):
        Checkpoint(tmp_path / "missing" / "run.safetensors", IDENTITY, 0.0).load()


# --- describing models and tasks -----------------------------------------------------------------


def layer(**options):
    return OscDPLR(2, d_output=1, **options)


def test_a_description_does_not_depend_on_what_training_changes():
    model = torch.nn.Sequential(layer(), torch.nn.Tanh())
    before = describe(model)
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    assert describe(model) == before == describe(torch.nn.Sequential(layer(), torch.nn.Tanh()))


omega = torch.tensor([0.01, 0.02], dtype=torch.float64)
DIFFERENT = [
    layer(),
    layer(form="dissipative"),
    layer(dt=0.5),
    torch.nn.Sequential(layer(), torch.nn.Tanh()),
    torch.nn.Sequential(layer(), torch.nn.ReLU()),
    torch.nn.Sequential(layer(dt=0.5), torch.nn.ReLU()),
    AnonymousOscillations(),
    AnonymousOscillations(kind="decay"),
    AnonymousOscillations(dtype=torch.float64),
    KnownOscillators(omega, omega),
    KnownOscillators(omega, omega.flip(0)),
    KnownOscillators(omega.float(), omega.float()),
    KnownOscillators(omega.conj() + 0j, omega),
    [1, 2],
    [1, "2"],
    {"a": torch.zeros(2, 3)},
    {"a": torch.zeros(3, 2)},
    {"b": torch.zeros(3, 2)},
    torch.relu,
    test_a_description_does_not_depend_on_what_training_changes,
    None,
]


def test_what_differs_is_described_differently():
    found = [describe(thing) for thing in DIFFERENT]
    for index, description in enumerate(found):
        assert description not in found[:index]


def test_things_that_hold_each_other_have_an_end():
    model, other = layer(), layer()
    model.friend, other.friend = [other], [model]
    assert describe(model)["friend"]["0"]["friend"]["0"]["class"] == "OscDPLR"
