"""The start page is the README with a list of all notebooks and their questions."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from lab.records.start_page import main, page, question

ROOT = Path(__file__).parents[2]
NOTEBOOK = """\
# ---
# jupyter: {{}}
# ---

# %% [markdown]
# {heading}
#
# {text}

# %%
a = 1

# %% [markdown]
# Is this a question?
"""


@pytest.mark.parametrize(
    ("heading", "text", "expected"),
    [
        ("# 300 · Does it turn?", "**Idea.** Or does it not?", "Does it turn?"),
        ("# Does it turn?", "", "Does it turn?"),
        (
            "# 300 · Gated rotations",
            "**Question.** A state is turned. Does the gate\n# turn it back? And why?",
            "Does the gate turn it back?",
        ),
        ("# 300 · Gated rotations", "This runs as it stands: does it turn?", "Does it turn?"),
        ("# 300 · Gated rotations", "Nothing is asked here.", "Gated rotations"),
        ("No heading.", "Nothing is asked here.", ""),
    ],
)
def test_a_question_is_the_heading_or_the_first_sentence_that_asks(heading, text, expected):
    assert question(NOTEBOOK.format(heading=heading, text=text)) == expected


@pytest.mark.parametrize("source", ["", "a = 1\n", "# %%\na = 1\n", "# %% [markdown]\n"])
def test_a_notebook_without_text_has_no_question(source):
    assert question(source) == ""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "README.md").write_text("# Title\n\nWhat it is.\n\n## Install\n\nLike this.\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_notebooks_come_after_the_first_words_of_readme(project):
    for name, heading in (
        ("022_b.py", "# 022 · Is |A| > 1 [sic]?"), ("004_a.py", "# A"), ("300_empty.py", ""),
        ("_template.py", "# NNN · Q?"), ("scratch.py", "# Q?"),
    ):  # fmt: skip
        text = NOTEBOOK.format(heading=heading, text="") if heading else ""
        (project / "notebooks" / name).write_text(text)
    (project / "executed").mkdir()
    (project / "executed" / "004.ipynb").touch()
    assert main() == 0
    written = (project / "START.md").read_text()
    assert written.startswith("# Title\n\nWhat it is.\n\n## Start here\n")
    assert written.endswith("\n\n## README\n\n## Install\n\nLike this.\n")
    assert "[research log](executed/README.md)" in written
    assert re.findall(r"^\| \d.*$", written, re.MULTILINE) == [
        "| 004 | [A](notebooks/004_a.py) | [executed](executed/004.ipynb) |",
        r"| 022 | [Is \|A\| > 1 \[sic\]?](notebooks/022_b.py) | not run yet |",
        "| 300 | [300_empty.py](notebooks/300_empty.py) | not run yet |",
    ]


def test_the_page_of_this_project_asks_a_question_of_each_notebook():
    text = page(ROOT)
    rows = re.findall(r"^\| (\d{3}) \| \[([^\]]+)\]\((.+?)\) \|", text, re.MULTILINE)
    notebooks = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9]*_*.py"))
    assert [Path(target).name for _, _, target in rows] == notebooks
    assert all(asked.endswith("?") for _, asked, _ in rows)
    links = [unquote(link) for link in re.findall(r"\]\(([^)#:]+)\)", text)]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_a_project_without_readme_is_one_sentence(project, capsys):
    (project / "README.md").unlink()
    assert main() == 1
    shown = capsys.readouterr().err
    assert shown.startswith("START.md cannot be written: ")
    assert shown.count("\n") == 1
    assert "README.md" in shown
