"""`make lab` for a new user: the start page, and the progress bar of a training."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from browser.test_jupyterlab import (  # noqa: E402
    CHROMIUM,
    FLAGS,
    NAMES,
    ROOT,
    SOON,
    choose,
    environment,
    open_by_double_click,
    refuse,
    shots,  # noqa: F401  (a fixture)
    until,
)

NOTEBOOK = "300_training.py"
OWN = "chosen"  # where JupyterLab keeps what its user has chosen, nothing at first

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"there is none of {', '.join(NAMES)}")

# Names in the file browser of which something is hidden.
CUT = """() => [...document.querySelectorAll('.jp-DirListing-itemName')]
  .filter((node) => node.scrollWidth > node.clientWidth).map((node) => node.innerText)"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of what `make lab` shows, after `make setup`, with a small notebook in it."""
    project = tmp_path_factory.mktemp("lab") / "project"
    for name in ("notebooks", "docs", "executed"):
        shutil.copytree(ROOT / name, project / name)
    for name in ("Makefile", "README.md", "pyproject.toml", "constraints.txt"):
        shutil.copyfile(ROOT / name, project / name)
    (project / "lab").symlink_to(ROOT / "lab")
    for path in list((project / "notebooks").glob("*.py")):  # as if all had been opened
        nbformat.write(nbformat.v4.new_notebook(), path.with_suffix(".ipynb"))
    shutil.copyfile(Path(__file__).with_name("training_notebook.py"), notebook(project))
    (project / ".venv").mkdir()
    (project / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (project / ".venv" / "installed").touch()
    return project


def notebook(project):
    return project / "notebooks" / NOTEBOOK


@pytest.fixture(scope="module")
def address(project):
    """The address of the JupyterLab that `make lab` starts, with only the project's settings."""
    folder = project.parent
    own = {k: v for k, v in environment(folder).items() if "MAKE" not in k}
    own |= {
        "JUPYTER_CONFIG_PATH": str(project / ".venv" / "etc" / "jupyter"),  # as sys.prefix is
        "JUPYTERLAB_SETTINGS_DIR": str(folder / OWN), "PYTHONPATH": str(project),
    }  # fmt: skip
    command = ["make", "lab", "LAB_FLAGS=--no-browser --allow-root --ip=127.0.0.1"]
    log, running = folder / "server.log", folder / "runtime"
    with log.open("w") as out:
        server = subprocess.Popen(
            command, cwd=project, env=own, stdout=out, stderr=out, start_new_session=True
        )
    try:
        until(lambda: any(running.glob("jpserver-*.json")) or server.poll() is not None)
        assert server.poll() is None, log.read_text()
        # What people follow who have no browser on this machine, such as over ssh.
        until(lambda: "/lab/tree/START.md?token=" in log.read_text())
        (found,) = running.glob("jpserver-*.json")
        told = json.loads(found.read_text())
        yield f"{told['url']}?token={told['token']}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # make and the server that it waits for
        server.wait(timeout=60)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The start page, with nothing else open; checks after the test that it had no problem."""
    page = opened(browser, address)
    yield page
    assert page.problems == []
    page.close()


def opened(browser, address, width=1400):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(SOON)
    page.problems, page.asked = [], []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda m: m.type == "error" and page.problems.append(m.text))
    page.on("request", lambda request: page.asked.append(request.url))
    page.route(re.compile(r"^https?://(?!127\.0\.0\.1[:/])"), lambda route: refuse(page, route))
    page.goto(address)
    page.locator(".jp-MarkdownViewer:visible table a").first.wait_for()
    return page


def test_the_start_page_shows_readme_the_log_and_every_question(page, project):
    shown = page.locator(".jp-MarkdownViewer:visible")
    rows = shown.locator("table").first.locator("tbody tr")
    assert rows.count() == len(list((project / "notebooks").glob("[0-9]*_*.py")))
    assert all(re.match(r"\d{3}\s.+\?\s", row) for row in rows.all_inner_texts())
    assert shown.get_by_role("link", name="research log").is_visible()
    titles = re.findall(r"^## (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    headings = [text.rstrip("¶") for text in shown.locator("h2").all_inner_texts()]
    assert [text for text in headings if text in titles] == titles


def test_nothing_pops_up_and_nothing_is_asked_of_the_network(page):
    page.wait_for_timeout(3000)  # JupyterLab asks for its news within a second
    assert page.locator(".jp-Dialog, .Toastify__toast").count() == 0
    assert [url for url in page.asked if re.search(r"/lab/api/(news|update)", url)] == []


def test_names_of_files_are_whole(page):
    open_by_double_click(page, "notebooks")
    page.locator(".jp-DirListing-content").get_by_text("004_osc_dplr.ipynb", exact=True).wait_for()
    names = page.locator(".jp-DirListing-itemName").all_inner_texts()
    assert {"004_osc_dplr.py", "201_recall_by_state_size.ipynb"} <= set(names)
    assert page.evaluate(CUT) == []


def test_markdown_opens_as_a_page(page):
    page.get_by_role("link", name="research log").click()
    page.locator(".jp-MarkdownViewer:visible h1", has_text="Research log").wait_for()
    page.locator(".jp-BreadCrumbs-home").click()
    open_by_double_click(page, "README.md")
    page.locator(".jp-MarkdownViewer:visible h1", has_text="A workspace").wait_for()
    assert page.locator(".jp-FileEditor").count() == 0


@pytest.mark.parametrize("width", [1400, 900])
@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_the_start_page_fits_its_window(project, browser, address, shots, width, theme):  # noqa: F811
    chosen = project.parent / OWN / "@jupyterlab" / "apputils-extension"
    chosen.mkdir(parents=True, exist_ok=True)
    (chosen / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
    page = opened(browser, address, width)
    light = str(theme.endswith("Light")).lower()
    page.locator(f'body[data-jp-theme-light="{light}"]').wait_for(state="attached")
    page.wait_for_timeout(1000)
    page.screenshot(path=shots / f"start_{width}_{theme.split()[1].lower()}.png")
    table = page.locator(".jp-MarkdownViewer:visible table").first.bounding_box()
    room = page.locator(".jp-MarkdownViewer:visible").bounding_box()
    assert table["x"] >= room["x"]
    assert table["x"] + table["width"] <= room["x"] + room["width"]
    page.close()


@pytest.mark.skipif(
    os.environ.get("LAB_IDLE") != "1",
    reason="it interrupts a kernel by the clock: LAB_IDLE=1 promises idle cores",
)
def test_a_training_is_one_bar_that_becomes_one_line_and_stays_one(page, project, browser, address):
    page.get_by_role("link", name="What is seen of a training?").click()
    idle(page)
    page.locator(".jp-Notebook .jp-RenderedMarkdown h1").first.wait_for()
    choose(page, "Run", "Run All Cells")
    bar = re.compile(
        r"oscillators: +\d+%\|.*\| \d+/\d+, loss [\d.e+-]+, +[\d.]+ updates/s, [\d:]+ left"
    )
    seen = page.locator(".jp-Notebook .jp-OutputArea-output")
    playwright.expect(seen.last).to_have_text(bar, timeout=SOON)
    done = re.compile(
        r"\s*4 models in 2 trainings, 200 updates, [\d.]+ s, loss [\d.e-]+( to [\d.e-]+)?\s*"
    )
    playwright.expect(seen.first).to_have_text(done, timeout=SOON)
    playwright.expect(seen).to_have_count(2, timeout=SOON)  # one each of the cells that train
    playwright.expect(seen.nth(1)).to_have_text(re.compile(r" [1-9]\d*/1000000, "), timeout=SOON)
    page.locator('.jp-NotebookPanel-toolbar [data-jp-item-name="interrupt"]').click()
    stopped = re.compile(
        r"\s*2 models, [\d,]+ of 1,000,000 updates, [\d.min ]+ ?s, loss [\d.e-]+, stopped\s*"
    )
    playwright.expect(seen.nth(1)).to_have_text(stopped, timeout=SOON)
    playwright.expect(seen.nth(2)).to_have_text(re.compile("Interrupted: training was stopped"))
    last = seen.all_inner_texts()

    pair = notebook(project).with_suffix(".ipynb")
    page.locator('.jp-NotebookPanel-toolbar [data-jp-item-name="save"]').click()
    until(lambda: pair.exists() and "of 1,000,000 updates" in pair.read_text())
    outputs = [
        o for cell in nbformat.read(pair, as_version=4).cells for o in cell.get("outputs", [])
    ]
    assert [set(o.data) for o in outputs[:2]] == [{"text/plain"}] * 2
    choose(page, "Kernel", "Shut Down Kernel")
    page.wait_for_timeout(1000)

    later = opened(browser, address)
    later.get_by_role("link", name="What is seen of a training?").click()
    shown = later.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    again = shown.locator(".jp-Notebook .jp-OutputArea-output")
    playwright.expect(again).to_have_count(3, timeout=SOON)
    assert again.all_inner_texts() == last
    assert "Error displaying widget" not in shown.locator(".jp-Notebook").inner_text()
    later.close()


def idle(page):
    # JupyterLab drops what it is asked to run while its kernel is "Initializing".
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    panel = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    panel.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()
