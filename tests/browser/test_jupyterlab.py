"""A notebook as a reader meets it: opened in JupyterLab by a double click, run, a slider moved."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ROOT = Path(__file__).parents[2]
# Notebooks, a slider of a panel, the figure's text before it is moved to its end, and after.
NOTEBOOKS = {
    "004_osc_dplr.py": ("Δ, s", r"in \d+ steps of 0", "in 128 steps of 1 s"),
    "013_circulant.py": ("token", r"token 1(?!\d)", "token 7"),
}
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = [
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SOON, LATER = 120_000, 1_800_000  # ms; for seconds and for minutes on an idle machine

# Boxes of a cell's output that hold more than they show, with their names.
OVERFLOWING = """(cell) => [cell, ...cell.querySelectorAll('*')].filter((node) =>
    !node.closest('svg') && !node.closest('.modebar')
    && ['auto', 'scroll', 'hidden'].includes(getComputedStyle(node).overflowY)
    && node.scrollHeight > node.clientHeight && node.clientHeight > 40)
  .map((node) => [node.className, node.scrollHeight, node.clientHeight])"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"there is none of {', '.join(NAMES)}")


@pytest.fixture(params=NOTEBOOKS)
def served(tmp_path, request):
    """A copy of a notebook, and a JupyterLab for it that has only the project's settings."""
    copies = tmp_path / "root" / "notebooks"
    copies.mkdir(parents=True)
    for name in (request.param, "jupytext.toml"):
        shutil.copy(ROOT / "notebooks" / name, copies)
    with jupyterlab(copies.parent, tmp_path) as address:
        yield copies / request.param, address


@contextmanager
def jupyterlab(root, folder):
    """Run a JupyterLab for `root`, with its own files in `folder`; yields its address."""
    log, running = folder / "server.log", folder / "runtime"
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
             f"--ServerApp.root_dir={root}"],
            cwd=root, env=environment(folder), stdout=out, stderr=out,
        )  # fmt: skip
    try:
        until(lambda: any(running.glob("jpserver-*.json")) or server.poll() is not None)
        assert server.poll() is None, log.read_text()
        (found,) = running.glob("jpserver-*.json")  # the port and the token that it chose
        address = json.loads(found.read_text())
        yield f"{address['url']}lab?token={address['token']}"
    finally:
        server.terminate()  # it stops its kernels before it goes
        try:
            server.wait(timeout=60)
        except subprocess.TimeoutExpired:
            server.kill()  # its kernels notice that it is gone
            server.wait()
            raise


def environment(folder):
    """The environment of `make lab`, in which JupyterLab keeps its own files in `folder`."""
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    quiet = {
        "fetchNews": "false",
        "checkForUpdates": False,
    }  # no question, no look-ups
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    overrides = "labconfig/default_setting_overrides.json"
    if not (Path(sys.prefix) / "etc" / "jupyter" / overrides).exists():  # `make setup` makes it
        command = Path(sys.executable).with_name("jupytext-config")
        arguments = ["--settings-file", folder / "config" / overrides, "set-default-viewer"]
        subprocess.run([command, *arguments, "python"], check=True, capture_output=True)
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "JPY", "LAB_"))},
        "JUPYTER_CONFIG_PATH": str(folder / "config"), "JUPYTER_CONFIG_DIR": str(folder / "own"),
        "JUPYTER_DATA_DIR": str(folder / "data"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"), "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }  # fmt: skip


@pytest.fixture
def page():
    """A page; `page.problems` collects errors and requests to other machines."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(SOON)
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda m: m.type == "error" and page.problems.append(m.text))
        page.route(re.compile(r"^https?://(?!127\.0\.0\.1[:/])"), lambda route: refuse(page, route))
        yield page
        browser.close()


def refuse(page, route):
    page.problems.append(f"asked for {route.request.url}")  # the workspace works without a network
    route.abort()


@pytest.fixture
def shots(tmp_path):
    """The folder of screenshots: LAB_SCREENSHOTS if it is set, else a temporary one."""
    folder = Path(os.environ.get("LAB_SCREENSHOTS", tmp_path / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_a_notebook_opens_runs_follows_its_sliders_and_keeps_what_it_showed(served, page, shots):
    notebook, address = served
    shots = shots / notebook.stem
    shots.mkdir(exist_ok=True)
    page.goto(address)
    open_by_double_click(page, "notebooks")
    open_by_double_click(page, notebook.name)
    idle = page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
    idle.wait_for()
    # JupyterLab drops what it is asked to run while its kernel is "Initializing".
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.locator(".jp-Notebook .jp-RenderedMarkdown h1").first.wait_for()  # not shown as text
    page.screenshot(path=shots / "opened.png")

    choose(page, "Run", "Run All Cells")
    error = page.locator('.jp-Notebook [data-mime-type="application/vnd.jupyter.error"]')
    wait_for_the_end(page)
    assert error.count() == 0, error.first.inner_text()
    to_the_end(page)  # cells that are far from what is seen are not in the page
    assert error.count() == 0, error.first.inner_text()
    next(views(page))  # back to the first screen, which has the verdict
    sheet = page.locator(".jp-Notebook .jp-OutputArea-output").first
    playwright.expect(sheet.locator("div > b")).to_have_text(
        re.compile("^(PROCEED|DEBUG|ABANDON|REFUTED|UNDECIDED)$")
    )
    idle.wait_for()
    # At the defaults it is too short to show all: the committed full run stands beside it.
    assert page.locator(".jp-Notebook").get_by_text("committed full run").count() >= 1
    page.screenshot(path=shots / "verdict.png")

    label, before, after = NOTEBOOKS[notebook.name]
    slider = page.locator(".widget-slider", has_text=re.compile(f"^{re.escape(label)}")).first
    panel = page.locator(".jp-CodeCell .jp-Cell-outputWrapper", has=slider)
    for _ in views(page):  # from the first screen to where it is
        if slider.count():
            break
    slider.scroll_into_view_if_needed()
    figure = slider.locator("xpath=following::*[contains(@class, 'js-plotly-plot')][1]")
    playwright.expect(figure).to_contain_text(re.compile(before), timeout=SOON)
    panel.screenshot(path=shots / "panel_before.png")
    move(page, slider, "End")
    playwright.expect(figure).to_contain_text(after, timeout=SOON)
    assert page.evaluate(OVERFLOWING, panel.element_handle()) == []
    panel.screenshot(path=shots / "panel.png")
    page.wait_for_timeout(1500)  # the last view goes into the notebook once the slider rests

    check_saved(page, notebook)
    look_at_outputs(page, shots)
    assert page.problems == []
    if os.environ.get("LAB_IDLE") == "1":  # test_panels.py asks the same of a small notebook
        check_reopened(page, address, notebook, after)


def check_reopened(page, address, notebook, seen):
    """With a new kernel, panels of the reopened notebook show their last view and no error."""
    choose(page, "Kernel", "Shut Down Kernel")
    page.wait_for_timeout(1000)
    later = page.context.browser.new_page(viewport={"width": 1400, "height": 1000})
    later.set_default_timeout(SOON)
    later.goto(address.replace("lab?", f"lab/tree/notebooks/{notebook.name}?"))
    panel = later.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    panel.locator(".jp-RenderedMarkdown h1").first.wait_for()
    figures = 0
    for _ in views(later):
        for figure in panel.locator(".jp-RenderedPlotly").all():
            figure.locator(".main-svg, img[src]").first.wait_for()
            figures += 1
        assert "Error displaying widget" not in panel.inner_text()
    assert figures >= 5
    assert seen in notebook.with_suffix(".ipynb").read_text()  # as a picture, it has no text
    later.close()


def wait_for_the_end(page):
    """Wait until the kernel has run all cells, and is idle."""
    waiting = page.locator(".jp-Notebook .jp-InputPrompt", has_text="[*]")
    idle = page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
    quiet = 0
    end = time.monotonic() + LATER / 1000
    while quiet < 3:  # between two cells it is idle for a moment
        assert time.monotonic() < end, "the kernel does not come to an end"
        page.wait_for_timeout(1000)
        quiet = quiet + 1 if idle.count() and not waiting.count() else 0


def views(page):
    """Scroll through the open notebook, from its first cell to its last, half a page at a time."""
    box = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer").first
    box.evaluate("(box) => { box.scrollTop = 0; }")
    before = -1.0
    while True:
        page.wait_for_timeout(500)
        at = box.evaluate("(box) => box.scrollTop")
        yield at
        if at == before:
            return
        before = at
        box.evaluate("(box) => { box.scrollTop += box.clientHeight / 2; }")


def to_the_end(page):
    """Scroll to the last cell of the open notebook."""
    for _ in views(page):
        pass


def open_by_double_click(page, name):
    page.locator(".jp-DirListing-content").get_by_text(name, exact=True).dblclick()


def choose(page, menu, entry):
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.get_by_role("menuitem", name=entry, exact=True).click()


def move(page, slider, key):
    slider.locator(".noUi-handle").focus()
    page.keyboard.press(key)


def check_saved(page, source):
    """Saving leaves the .py as it was, and puts every output into the .ipynb beside it."""
    pair = source.with_suffix(".ipynb")
    page.locator('.jp-NotebookPanel-toolbar [data-jp-item-name="save"]').click()
    # Both are there, and empty, before they are written.
    until(lambda: is_whole(pair) and source.read_text())
    assert source.read_text() == (ROOT / "notebooks" / source.name).read_text()
    cells = [cell for cell in nbformat.read(pair, as_version=4).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert all(cell.execution_count for cell in cells)
    assert [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"] == []
    figures = [o for o in outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    assert len(figures) >= 5


def is_whole(notebook):
    """Whether all cells of the saved file have run; an earlier automatic save may lack some."""
    try:
        cells = json.loads(notebook.read_text())["cells"]
    except (FileNotFoundError, ValueError):
        return False
    return all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")


def look_at_outputs(page, shots):
    """Scroll through the notebook: every figure is drawn, every widget found."""
    notebook = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook")
    for i, _ in enumerate(views(page)):
        for figure in notebook.locator(".jp-RenderedPlotly").all():
            figure.locator(".main-svg, img[src]").first.wait_for()
        assert "Error displaying widget" not in notebook.inner_text()
        notebook.screenshot(path=shots / f"view_{i:02}.png")


def until(condition, seconds=SOON / 1000):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:.0f} s"
        time.sleep(0.1)
