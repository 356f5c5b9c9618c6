"""Panels in JupyterLab: they follow their controls, and a saved notebook keeps the view."""

import os
import re
import shutil
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
    OVERFLOWING,
    ROOT,
    choose,
    jupyterlab,
    move,
    open_by_double_click,
    refuse,
    until,
)

from lab.plots.render import PICTURE, PLOTLY  # noqa: E402

NOTEBOOK = "panel_notebook.py"
LOST = "Error: widget model not found"  # what JupyterLab writes to its console of a lost widget
SOON = 60_000  # ms; for seconds on an idle machine

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"there is none of {', '.join(NAMES)}")

# Moves a slider by a key, so many times, and takes the ms from each to the next picture.
TIMED = """async ([cell, key, moves]) => {
  const handle = cell.querySelector('.noUi-handle'), graph = cell.querySelector('.js-plotly-plot');
  const title = () => graph.querySelector('.gtitle').textContent;
  const times = [];
  for (let i = 0; i < moves; i += 1) {
    const before = title(), start = performance.now();
    handle.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    while (title() === before && performance.now() < start + 5000) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    times.push(performance.now() - start);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return times;
}"""
# Keeps in `window.seen` every title that the figure of a cell ever has.
COUNT = """(cell) => {
  window.seen = [];
  const look = () => {
    const title = cell.querySelector('.gtitle')?.textContent;
    if (title && title !== window.seen.at(-1)) window.seen.push(title);
  };
  new MutationObserver(look).observe(cell, { childList: true, subtree: true, characterData: true });
}"""
VIEW_OF = """(graph) => ({
  x: graph._fullLayout.xaxis.range, y: graph._fullLayout.yaxis.range,
  visible: graph._fullData.map((trace) => trace.visible),
})"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The notebook, and the address of a JupyterLab for it."""
    folder = tmp_path_factory.mktemp("panels")
    root = folder / "root"
    root.mkdir()
    shutil.copy(Path(__file__).with_name(NOTEBOOK), root)
    shutil.copy(ROOT / "notebooks" / "jupytext.toml", root)
    with jupyterlab(root, folder) as address:
        yield root / NOTEBOOK, address


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser, served):
    """The notebook, run."""
    page = opened(browser, served)
    choose(page, "Run", "Run All Cells")
    page.locator(".jp-OutputArea-output", has_text="all run").wait_for()
    yield page
    assert page.problems == []


def opened(browser, served):
    """A page that shows the notebook, whose kernel is ready."""
    page = browser.new_page(viewport={"width": 1400, "height": 1400})
    page.set_default_timeout(SOON)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda m: m.type == "error" and page.problems.append(m.text))
    page.route(re.compile(r"^https?://(?!127\.0\.0\.1[:/])"), lambda route: refuse(page, route))
    page.goto(served[1])
    open_by_double_click(page, NOTEBOOK)
    page.locator(".jp-Notebook .jp-RenderedMarkdown h1").first.wait_for()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    return page


def panel(page, label):
    """The output of the panel that has a control of this name, and the title of its figure."""
    cell = page.locator(".jp-CodeCell .jp-Cell-outputWrapper", has=page.get_by_text(label))
    cell.locator(".js-plotly-plot .main-svg").first.wait_for()
    return cell, cell.locator(".gtitle")


def shows(title, text):
    playwright.expect(title).to_have_text(re.compile(text), timeout=SOON)


def evaluate(locator, script, *more):
    node = locator.element_handle()
    return locator.page.evaluate(script, [node, *more] if more else node)


def test_a_move_makes_no_scroll_bar_and_cuts_nothing(page):
    cell, title = panel(page, "ω, rad/s")
    assert evaluate(cell, OVERFLOWING) == []
    move(page, cell.locator(".widget-slider", has_text="ω, rad/s"), "End")
    shows(title, "frequency 5.0, step 0")
    assert evaluate(cell, OVERFLOWING) == []
    whole, name = (part.bounding_box() for part in (cell, cell.locator(".xtitle")))
    assert name["y"] + name["height"] <= whole["y"] + whole["height"]


def test_a_move_redraws_within_100_ms_where_the_cores_are_idle(page):
    """Asserted where LAB_IDLE=1 promises idle cores: elsewhere a clock says nothing of the code."""
    cell, title = panel(page, "ω, rad/s")
    move(page, cell.locator(".widget-slider", has_text="ω, rad/s"), "End")
    shows(title, "frequency 5.0")
    evaluate(cell, TIMED, "ArrowLeft", 10)  # the page compiles what these first moves run
    times = sorted(evaluate(cell, TIMED, "ArrowLeft", 30))
    print("ms from a key to the figure:", [round(time) for time in times])
    assert len(times) == 30
    # The median: a single one may meet another program.
    if os.environ.get("LAB_IDLE") == "1":
        assert times[15] < 100


def test_zoom_and_hidden_traces_outlive_a_move(page):
    cell, title = panel(page, "ω, rad/s")
    graph = cell.locator(".js-plotly-plot")
    cell.locator(".legendtoggle").nth(1).click()
    until(lambda: evaluate(graph, VIEW_OF)["visible"][1] == "legendonly")
    plot = cell.locator(".nsewdrag").bounding_box()
    x, y = plot["x"] + plot["width"] / 4, plot["y"] + plot["height"] / 4
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + plot["width"] / 3, y + plot["height"] / 3, steps=4)
    page.mouse.up()
    until(lambda: evaluate(graph, VIEW_OF)["x"][0] > 0.5)
    before = evaluate(graph, VIEW_OF)
    move(page, cell.locator(".widget-slider", has_text="step"), "End")
    shows(title, "step 9")
    assert evaluate(graph, VIEW_OF) == before
    cell.locator(".nsewdrag").dblclick()  # shows all again, and the next move leaves it so
    until(lambda: evaluate(graph, VIEW_OF)["x"][0] < 0.5)
    move(page, cell.locator(".widget-slider", has_text="step"), "Home")
    shows(title, "step 0")
    assert evaluate(graph, VIEW_OF)["x"][0] < 0.5


def test_moves_do_not_queue_up(page):
    cell, title = panel(page, "value")
    page.evaluate(COUNT, cell.element_handle())
    cell.locator(".noUi-handle").focus()
    for _ in range(20):  # each takes 0.3 s to draw: 6 s if all of them were
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(40)
    shows(title, "slow 20")
    drawn = page.evaluate("() => window.seen")
    assert drawn[-1] == "slow 20"
    assert len(drawn) < 12


def test_a_slider_plays(page):
    cell, title = panel(page, "ω, rad/s")
    cell.locator(".widget-play button").first.click()
    shows(title, "step [3-9]")
    cell.locator(".widget-play button").first.click()  # and rests


def test_a_notebook_of_yesterday_shows_what_was_seen_last(page, browser, served):
    cell, title = panel(page, "ω, rad/s")
    cell.locator("select").select_option("falling")
    shows(title, "falling")
    last = title.text_content()
    pair = served[0].with_suffix(".ipynb")
    save(page, pair, last)
    page.locator('.jp-NotebookPanel-toolbar [data-jp-item-name="restart"]').click()
    page.locator(".jp-Dialog-button.jp-mod-warn").click()
    note = page.get_by_text("The figure as it was last seen.")
    note.first.wait_for()  # the controls have left room for it
    page.goto("about:blank")

    later = opened(browser, served)
    note = later.get_by_text("The figure as it was last seen.")
    note.first.wait_for()
    assert "Error" not in later.locator(".jp-Notebook").inner_text()
    figures = later.locator(".jp-RenderedPlotly")
    assert figures.count() == 2
    for figure in figures.all():
        picture, room = figure.locator("img").bounding_box(), figure.bounding_box()
        assert picture["width"] <= room["width"] + 1
    figures.first.hover()
    shows(figures.first.locator(".gtitle"), re.escape(last))
    assert [problem for problem in later.problems if not problem.startswith(LOST)] == []
    later.close()


def save(page, pair, title):
    """Save until the notebook holds a figure of this title, which comes once the controls rest."""

    def saved():
        page.locator('.jp-NotebookPanel-toolbar [data-jp-item-name="save"]').click()
        page.wait_for_timeout(500)
        return pair.exists() and f"Figure: {title}" in pair.read_text()

    until(saved, 30)


def test_an_export_has_a_picture_of_it_and_no_controls(page, served, tmp_path):
    pair = served[0].with_suffix(".ipynb")
    bundles = [o.data for c in nbformat.read(pair, as_version=4).cells
               for o in c.get("outputs", []) if PLOTLY in o.get("data", {})]  # fmt: skip
    assert [PICTURE in bundle for bundle in bundles] == [True, True]
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--output-dir", tmp_path, pair]
    subprocess.run(command, check=True, capture_output=True)
    text = (tmp_path / pair.with_suffix(".html").name).read_text()
    assert text.count("data:image/png;base64") >= 2
