import dataclasses
import math
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from papermill.translators import PythonTranslator

import lab
from lab.params.parameters import (
    ParameterError,
    check,
    check_given,
    declarations,
    find_cells,
    injected_values,
)

CELL = """\
experiment: str = "004"  # the notebook these parameters belong to
length: int = 128  # time steps, in [2, 4096]
lr: float = 0.01  # peak learning rate, in (0, 1]
seeds: list[int] = [0, 1, 2]  # one model each, in [0, 2147483647]
decay: list[float] = [0.5]  # in [0, inf)
device: str = "auto"  # where, one of auto, cpu, cuda
arms: list[str] = ["plain"]  # one of plain, signed
order: int = 2  # one of 1, 2, 4
plot: bool = True  # draw the figures
label: str = "# in [0"  # what stands in a string is no comment
"""


def run(declaration=CELL, **injected):
    """What `parameters()` gives after papermill has injected these values."""
    source = PythonTranslator.codify(injected)
    namespace: dict[str, object] = {}
    exec(declaration + source, {}, namespace)
    return check(declaration, [source], namespace)


def refusal(declaration=CELL, **injected):
    """The sentence that `parameters()` stops with."""
    with pytest.raises(ParameterError) as error:
        run(declaration, **injected)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_defaults_come_back_as_declared():
    p = run()
    expected = {"experiment": "004", "length": 128, "lr": 0.01, "seeds": [0, 1, 2], "decay": [0.5]}
    expected |= {"device": "auto", "arms": ["plain"], "order": 2, "plot": True, "label": "# in [0"}
    assert dataclasses.asdict(p) == expected
    assert repr(p).startswith("Parameters(experiment='004', length=128, lr=0.01, seeds=[0, 1, 2]")
    with pytest.raises(dataclasses.FrozenInstanceError):
        p.length = 3


def test_injected_values_replace_defaults():
    p = run(length=2, lr=1, seeds=[7], decay=[0, 2.5], arms=["signed", "plain"], plot=False)
    assert (p.length, p.seeds, p.plot, p.arms) == (2, [7], False, ["signed", "plain"])
    assert [type(x) for x in (p.lr, *p.decay)] == [float, float, float]


def test_lists_are_copies():
    seeds = [0]
    p = check("seeds: list[int] = [0]", [], {"seeds": seeds})
    seeds.append(1)
    assert p.seeds == [0]


@given(st.integers(-5000, 5000))
def test_an_interval_admits_what_lies_within_it(length):
    if 2 <= length <= 4096:
        assert run(length=length).length == length
    else:
        assert refusal(length=length) == f"length is {length} (int), and must be in [2, 4096]"


@pytest.mark.parametrize(
    ("bounds", "admitted"),
    [("[0, 1]", [0, 1]), ("(0, 1]", [1]), ("[0, 1)", [0]), ("(0, 1)", []), ("[-1e1, inf)", [0, 1])],
)
def test_round_brackets_leave_the_end_out(bounds, admitted):
    cell = f"x: float = 0.5  # in {bounds}, without a unit"
    for x in (0, 1):
        if x in admitted:
            assert run(cell, x=x).x == x
        else:
            assert bounds in refusal(cell, x=x)


@pytest.mark.parametrize(
    ("injected", "sentence"),
    [
        ({"lr": 0}, "lr is 0 (int), and must be in (0, 1]"),
        ({"seeds": [0, -1]}, "seeds[1] is -1 (int), and must be in [0, 2147483647]"),
        ({"device": "gpu"}, "device is 'gpu' (str), and must be one of auto, cpu, cuda"),
        (
            {"arms": ["plain", "sined"]},
            "arms[1] is 'sined' (str), and must be one of plain, signed",
        ),
        ({"order": 3}, "order is 3 (int), and must be one of 1, 2, 4"),
        ({"lr": math.nan}, "lr is nan (float), and must be a finite float"),
        ({"decay": [math.inf]}, "decay[0] is inf (float), and must be a finite float"),
        ({"length": True}, "length is True (bool), and must be int"),
        ({"lr": True}, "lr is True (bool), and must be float"),
        ({"plot": 1}, "plot is 1 (int), and must be bool"),
        ({"length": None}, "length is None (NoneType), and must be int"),
        ({"length": 12.5}, "length is 12.5 (float), and must be int"),
        ({"length": 12.0}, "length is 12.0 (float), and must be int: write 12"),
        ({"length": "12"}, "length is '12' (str), and must be int: write it without quotes"),
        ({"plot": "yes"}, "plot is 'yes' (str), and must be bool: write it without quotes"),
        (
            {"lr": "1e-3"},
            "lr is '1e-3' (str), and must be float: YAML 1.1 reads 1e-3 as text, write 1.0e-3",
        ),
        (
            {"decay": ["1.5E3"]},
            "decay[0] is '1.5E3' (str), and must be float: YAML 1.1 reads 1.5E3 as text, "
            "write 1.5e+3",
        ),
        (
            {"device": False},
            'device is False (bool), and must be str: put it in quotes, as in device: "auto" '
            "(on a command line, -r device auto)",
        ),
        (
            {"experiment": 4},
            'experiment is 4 (int), and must be str: put it in quotes, as in experiment: "004" '
            "(on a command line, -r experiment 004)",
        ),
        (
            {"seeds": "[0, 1]"},
            "seeds is '[0, 1]' (str), and must be list[int] with at least one element: "
            "on a command line, -y 'seeds: [0, 1, 2]'",
        ),
        (
            {"seeds": 3},
            "seeds is 3 (int), and must be list[int] with at least one element: "
            "on a command line, -y 'seeds: [0, 1, 2]'",
        ),
        ({"sedes": [0]}, "this notebook has no parameter sedes: did you mean seeds?"),
        (
            {"experiment": "006", "unknown": 1},
            "these parameters are for experiment 006, this notebook is 004: use params/004.yaml",
        ),
    ],
)
def test_what_is_given_wrongly_is_named_with_its_remedy(injected, sentence):
    assert refusal(**injected) == sentence


def test_an_empty_list_is_refused():
    assert refusal(seeds=[]).startswith("seeds is [] (list), and must be list[int] with at least")


def test_an_int_too_large_for_a_float_is_refused():
    assert "must be float" in refusal("x: float = 1.0", x=10**400)


def test_a_name_unlike_any_other_is_told_all_names():
    assert (
        refusal("a: int = 1\nb: int = 2", zzz=1)
        == "this notebook has no parameter zzz: it has a, b"
    )


def test_the_paths_that_papermill_injects_are_not_parameters():
    p = run("a: int = 1", PAPERMILL_INPUT_PATH="a.py", PAPERMILL_OUTPUT_PATH="a.ipynb", a=2)
    assert dataclasses.asdict(p) == {"a": 2}


@pytest.mark.parametrize(
    ("declaration", "words"),
    [
        ("a: int | None = 1", "a has the type int | None: use one of int, float"),
        ("a: tuple[int] = (1,)", "a has the type tuple[int]"),
        ("a: int = 1\nb: int = 2 * a", "b is 2 * a in the parameters cell: write the value itself"),
        ("a: int = 1; b: int = 2", "b must be declared once, on a line of its own"),
        ("a: int = 1\na: int = 2", "a must be declared once"),
        ("a = 1", "'a = 1': write NAME: TYPE = VALUE"),
        ("a: int = 1.5", "a is 1.5 (float), and must be int"),
        ("a: int = 5  # in [0, 3]", "a is 5 (int), and must be in [0, 3]"),
        ("a: int = 5  # in [0; 9]", "a: int has 'in [0; 9]' in its comment"),
        ("a: int = 5  # in (seconds), in [0, 9]", "two ranges"),
        ("a: int = 5  # in (seconds)", "'in (seconds)' in its comment: write 'in [a, b]'"),
        ("a: int = 5  # in [0, 9", "'in [0, 9' in its comment"),
        ("a: int = 5  # in[9, 0]", "'in[9, 0]' in its comment"),
        ("a: int = 5  # in [0, n]", "'in [0, n]' in its comment"),
        ("a: str = 'x'  # in [0, 9]", "a: str has 'in [0, 9]' in its comment"),
        ("a: str = 'x'  # one of x, y or z", "'one of x, y or z' in its comment"),
        ("a: str = 'x'  # one of x, y.", "'one of x, y.' in its comment"),
        ("a: float = 1.0  # one of 1, 2", "a: float has 'one of 1, 2' in its comment"),
        ("a: int = 1  # in [0, 3], one of 1, 2", "two ranges"),
    ],
)
def test_a_malformed_declaration_is_refused(declaration, words):
    with pytest.raises(ParameterError, match=re.escape(words)):
        declarations(declaration)


def test_a_default_is_checked_even_where_another_value_replaces_it():
    assert "a is 5" in refusal("a: int = 5  # in [0, 3]", a=1)


def test_the_latest_parameters_cell_counts_and_what_was_injected_after_it():
    first, second = "a: int = 1\n", "a: int = 2  # changed\n"
    history = ["", "import lab\n", first, "# Parameters\na = 3\n", "p = 1\n", second]
    assert find_cells(history) == (second, [])
    assert find_cells([*history, "# Parameters\na = 4\n", "!ls"]) == (
        second,
        ["# Parameters\na = 4\n"],
    )


@pytest.mark.parametrize("cell", ["", "# Parameters\na = 1\n", "a: int\n", "a: int = 1\nb = 2\n"])
def test_without_a_parameters_cell_the_error_says_what_one_is(cell):
    with pytest.raises(ParameterError, match="NAME: TYPE = VALUE"):
        find_cells([cell])


def test_parameters_injected_above_their_declaration_are_not_lost_in_silence():
    with pytest.raises(ParameterError, match='the tag "parameters"'):
        find_cells(["# Parameters\na = 3\n", "a: int = 1\n"])


def test_outside_a_notebook_the_error_says_where_to_call_it():
    with pytest.raises(ParameterError, match="outside a notebook"):
        lab.parameters()


def test_importing_lab_imports_nothing_slow():
    code = "import sys, lab; print({'torch', 'IPython', 'numpy', 'jupytext'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- before and after papermill ------------------------------------------------------------------

# What papermill wrote of keys and values that are more than names and plain values.
HOSTILE = [
    {"lr = 0.5\nopen('x', 'w')\nlength": 5},
    {"!touch x; echo x": 7},
    {"%time x": 1},
    {"lr: float": 0.5},
    {"lr, length": 5},
    {"lr.real": 5},
    {"os.environ['A']": 5},
    {"lr = length": 5},
    {"lr": b'"; open("x", "w"); "'},
    {"lr": (b'"+str(open("x", "w"))+"',)},
    {"lr": {b'": open("x", "w"), "': 1}},
]


@pytest.mark.parametrize("given", HOSTILE, ids=repr)
def test_hostile_parameters_are_refused_before_and_after_the_injection(given):
    declared = declarations(CELL)
    with pytest.raises(ParameterError) as error:
        check_given(declared, given)
    assert "\n" not in str(error.value)
    cell = PythonTranslator.codify(given)
    declaration, injected = find_cells([CELL, cell])
    assert declaration == CELL
    with pytest.raises(ParameterError):
        check(declaration, injected, {})


def test_a_key_that_looks_like_a_declaration_does_not_become_the_parameters_cell():
    cell = PythonTranslator.codify({"lr: float": 50.0})
    declaration, injected = find_cells([CELL, cell])
    with pytest.raises(ParameterError, match="more than plain values"):
        check(declaration, injected, {"lr": 50.0})


@pytest.mark.parametrize(
    "cell", ["# Parameters\n%cd x\n", "# Parameters\na = (\n", "# Parameters\nimport os"]
)
def test_an_injected_cell_that_is_no_list_of_values_stops_the_notebook(cell):
    with pytest.raises(ParameterError, match="more than plain values"):
        check("a: int = 1", find_cells(["a: int = 1", cell])[1], {})


class Name(str):
    """A subclass of str, whose values equal plain names."""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({Name("lr"): 0.5}, "no parameter 'lr'"),
        ({1: 0.5}, "this notebook has no parameter 1: it has experiment, length"),
        ({"print": 1}, "this notebook has no parameter print"),
        ({"class": 1}, "this notebook has no parameter class"),
        ({"device": Name("cpu")}, "device is 'cpu' (Name), and must be str"),
        ({"device": "\ud83d"}, r"device is '\ud83d' (str), and must be text without halves"),
        ({"seeds": (1, 2)}, "seeds is (1, 2) (tuple), and must be list[int]"),
        ({"seeds": [[1]]}, "seeds[0] is [1] (list), and must be int"),
        ({"seeds": [4, 2, 4]}, "seeds holds 4 twice, which counts one run as two"),
        ({"length": {"a": 1}}, "length is {'a': 1} (dict), and must be int"),
        ({"length": 10**5000}, "length is <int> (int), and must be in [2, 4096]"),
        ({"length": "x" * 10**6}, "…"),
        ({"length": "09"}, "length is '09' (str), and must be int: write 9"),
        ({"x" * 10**6: 1}, "…"),
        ({"PAPERMILL_INPUT_PATH": 1}, "PAPERMILL_INPUT_PATH is 1 (int), and must be a path"),
        ({"experiment": "007", "print": 1}, "these parameters are for experiment 007"),
    ],
)
def test_what_is_given_is_checked_before_papermill_sees_it(given, words):
    with pytest.raises(ParameterError) as error:
        check_given(declarations(CELL), given)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_plain_values_of_the_declared_kind_pass():
    given = {"length": 64, "lr": 1, "seeds": [3], "label": 'a "b" \\ \n#', "arms": ["plain"]}
    check_given(declarations(CELL), {**given, "PAPERMILL_OUTPUT_PATH": "a.ipynb"})
    assert injected_values(PythonTranslator.codify(given)) == given


@pytest.mark.parametrize("name", ["seeds", "tuning_seeds"])
def test_a_seed_counts_once(name):
    with pytest.raises(ParameterError, match=f"{name} holds 1 twice"):
        declarations(f"{name}: list[int] = [1, 1]")
    assert declarations("widths: list[int] = [1, 1]")["widths"].default == [1, 1]


@pytest.mark.parametrize(
    "cell",
    [
        "steps: int = (\n    250  # updates, in [1, 1000]\n)\n",
        "steps: int = (  # updates, in [1, 1000]\n    250\n)\n",
        "steps: int = (\n    250\n)  # updates, in [1, 1000]\n",
    ],
)
def test_a_range_counts_on_whichever_line_of_its_declaration_it_stands(cell):
    assert run(cell, steps=2).steps == 2
    assert "must be in [1, 1000]" in refusal(cell, steps=0)


def test_a_list_on_several_lines_has_one_range():
    cell = "rates: list[float] = [\n    0.1,  # slow, in (0, 1]\n    0.5,  # fast\n]\n"
    assert declarations(cell)["rates"].comment == "slow, in (0, 1] fast"
    with pytest.raises(ParameterError, match="two ranges"):
        declarations(cell.replace("fast", "fast, in (0, 1]"))


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("# Parameters\na: int = 1\n", "begins with '# Parameters'"),
        ("%time\na: int = 1\n", "the parameters cell is no Python"),
    ],
)
def test_a_parameters_cell_that_cannot_be_told_from_others_is_refused(cell, words):
    with pytest.raises(ParameterError, match=re.escape(words)):
        declarations(cell)
