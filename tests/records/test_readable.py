"""Notebooks written on `lab.experiment` are short, half explained, and begin with their verdict."""

import ast
import re
from pathlib import Path

import jupytext
import pytest

ROOT = Path(__file__).parents[2]
LONGEST_CELL = 25  # lines
MOST_CODE = 300  # lines that are not blank, comments among them
FIRST_SCREEN = 45  # lines of text and visible code above the table

# What a reader has to see: these calls make or decide a number.
WORK = {
    f"exp.{name}" for name in ("train", "tune", "judge", "not_run", "note", "table", "conclude")
}
# What only shows: these make or display a figure or a table.
SHOWS = re.compile(r"\b(figures|panels)\.\w+\(|\bdisplay\(|\.(curves|losses|frame)\(|\bpd\.\w+\(")


def on_experiment(path):
    """Whether a notebook imports lab.experiment."""
    return "lab.experiment" in re.findall(
        r"^from (\S+) import", path.read_text(), re.MULTILINE
    )  # fmt: skip


NOTEBOOKS = [path for path in sorted((ROOT / "notebooks").glob("*.py")) if on_experiment(path)]
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells_of(path):
    return [cell for cell in jupytext.read(path).cells if cell.source.strip()]


def is_hidden(cell):
    return cell.metadata.get("jupyter", {}).get("source_hidden", False)


def count(cells):
    return sum(bool(line.strip()) for cell in cells for line in cell.source.splitlines())


def of_kind(cells, kind):
    return [cell for cell in cells if cell.cell_type == kind]


def calls(source):
    """What is called, by its name in the source."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return {ast.unparse(node.func) for node in found}


def names(source, context):
    """Names that a source binds (ast.Store) or reads (ast.Load)."""
    found = ast.walk(ast.parse(source))
    bound = {n.id for n in found if isinstance(n, ast.Name) and isinstance(n.ctx, context)}
    if context is ast.Store:
        tree = ast.walk(ast.parse(source))
        nodes = list(tree)
        bound |= {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        bound |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    return bound


def only_shows(source, others):
    """Whether a cell makes figures or tables, and nothing that another cell works with."""
    made = names(source, ast.Store) & set().union(*(names(each, ast.Load) for each in others))
    # A name that every cell that reads it binds anew is the cell's own, such as a loop's.
    made = {
        name for name in made
        if any(name in names(o, ast.Load) and name not in names(o, ast.Store) for o in others)
    }  # fmt: skip
    works = calls(source) & (WORK | {"print"}) or re.search(r"^\s*assert ", source, re.MULTILINE)
    return bool(SHOWS.search(source)) and not made and not works


def is_preamble(cell):
    """Imports, or the criteria, which the table below them shows."""
    return bool(re.match(r"(import|from) ", cell.source)) or "Experiment" in calls(cell.source)


def test_the_notebooks_written_on_experiment_are_found():
    assert {"_template", "013_circulant"} <= {path.stem for path in NOTEBOOKS}


@each_notebook
def test_a_notebook_is_short_and_a_third_of_it_is_text(path):
    cells = cells_of(path)
    code, text = (count(of_kind(cells, kind)) for kind in ("code", "markdown"))
    assert code <= MOST_CODE
    assert text >= (code + text) / 3, f"{text} lines of text beside {code} of code"


@each_notebook
def test_no_cell_is_longer_than_a_screen_shows(path):
    long = {
        cell.source.splitlines()[0]: len(cell.source.splitlines())
        for cell in cells_of(path)
        if len(cell.source.splitlines()) > LONGEST_CELL
    }
    assert long == {}


@each_notebook
def test_cells_that_only_show_are_hidden_and_no_others(path):
    code = of_kind(cells_of(path), "code")
    for cell in code:
        others = [other.source for other in code if other is not cell]
        shows = only_shows(cell.source, others)
        assert is_hidden(cell) or not shows, f"this cell only shows:\n{cell.source}"
        assert shows or is_preamble(cell) or not is_hidden(cell), f"it works:\n{cell.source}"


@each_notebook
def test_the_table_of_criteria_and_the_verdict_stand_on_the_first_screen(path):
    cells, above = cells_of(path), 0
    for cell in cells:
        if "Experiment" in calls(cell.source) if cell.cell_type == "code" else False:
            assert cell.source.splitlines()[-1] == "exp", "the cell shows the table"
            assert is_hidden(cell)
            break
        above += 0 if is_hidden(cell) else len(cell.source.splitlines())
    else:
        pytest.fail("no cell makes an Experiment")
    assert above <= FIRST_SCREEN
    later = "\n".join(cell.source for cell in of_kind(cells, "code"))
    assert {"exp.key_figure", "exp.conclude"} <= calls(later)


@pytest.mark.parametrize(
    ("source", "shows"),
    [
        ("display(figure)", True),
        ("scores.frame(TESTS)", True),
        ("a = figures.lines(x)\na.update_layout()", True),
        ("kept = pd.DataFrame(x)", False),  # another cell reads it
        ("exp.judge('C1', x)\ndisplay(x)", False),
        ("display(x)\nassert x", False),
        ("x = train()", False),
    ],
)
def test_what_only_shows_is_told_from_what_works(source, shows):
    assert only_shows(source, ["print(kept)"]) is shows


def test_a_loop_variable_is_no_result():
    assert only_shows("for name in x:\n    display(name)", ["for name in y:\n    work(name)"])


def test_hiding_survives_the_way_from_text_to_notebook_and_back():
    text = '# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]\nx = 1\n'
    notebook = jupytext.reads(text, fmt="py:percent")
    assert is_hidden(notebook.cells[0])
    assert text in jupytext.writes(notebook, fmt="py:percent")
