"""Figures in the plotly.js of a real browser: what they look like there, and that twins agree."""

import json
import re
import shutil
import sys
from pathlib import Path

import plotly
import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

sys.path.insert(0, str(Path(__file__).parents[1] / "plots"))
from figure_cases import CASES  # noqa: E402

from lab.plots import looks  # noqa: E402
from lab.plots.render import PLOTLY, bundle  # noqa: E402
from lab.plots.twin.compose import laid_out, plotting_area  # noqa: E402
from lab.plots.twin.read import read  # noqa: E402

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"there is none of {', '.join(NAMES)}")

# Draws a figure, and reads what the page then shows: ticks and ranges of every axis, and where
# titles, buttons, texts and plots are.
DRAW = """async ([figure, width]) => {
  document.body.innerHTML = '';
  const div = document.createElement('div');
  div.style.width = width + 'px';
  div.style.height = figure.layout.height + 'px';
  document.body.append(div);
  await Plotly.newPlot(div, figure.data, figure.layout, {...figure.config, displayModeBar: true});
  const home = div.getBoundingClientRect();
  const box = (node) => {
    const r = node.getBoundingClientRect();
    return [r.left - home.left, r.top - home.top, r.right - home.left, r.bottom - home.top];
  };
  const all = (selector) => [...div.querySelectorAll(selector)].filter(
    (node) => node.getBoundingClientRect().width > 0);
  const full = div._fullLayout, axes = {};
  for (const key of Object.keys(full).filter((key) => /^[xy]axis[0-9]*$/.test(key))) {
    const axis = full[key];
    axes[axis._id] = {
      range: axis.range, type: axis.type,
      ticks: axis.visible && axis.showticklabels ? axis._vals.map((tick) => tick.text) : [],
    };
  }
  return {
    axes, height: home.height, size: [full._size.l, full._size.t, full._size.w, full._size.h],
    buttons: box(div.querySelector('.modebar')), title: all('.gtitle').map(box),
    texts: all('svg text').map((node) => [node.textContent, box(node)]),
    legend: all('.legendtext').map((node) => node.textContent),
    labels: all('.annotation-text').map((node) => [node.textContent, box(node)]),
  };
}"""


@pytest.fixture(scope="module")
def page():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu"])
        page = browser.new_page(viewport={"width": 1000, "height": 1000})
        page.route(re.compile("^https?:"), lambda route: route.abort())
        page.set_content("<html><body style='margin: 0'></body></html>")
        page.add_script_tag(path=str(PLOTLY_JS))
        yield page
        browser.close()


@pytest.fixture(scope="module")
def shown(page):
    """What the page shows of a case at some width, and what was sent to it; drawn once each."""
    kept = {}

    def draw(name, width=700):
        if (name, width) not in kept:
            looks.reset()
            figure = bundle(CASES[name](), picture=False)[0][PLOTLY]
            kept[name, width] = page.evaluate(DRAW, [figure, width]), figure
        return kept[name, width]

    return draw


@pytest.mark.parametrize("name", CASES)
def test_the_twin_has_the_ranges_and_the_ticks_of_the_page(shown, name):
    seen, figure = shown(name)
    traces, layout = read(json.loads(json.dumps(figure)))
    area = plotting_area(layout, 700, layout["height"])
    left, top, width, height = seen["size"]
    assert (left, top, left + width, top + height) == pytest.approx(area, abs=1)  # nothing grew
    for axis in laid_out(traces, layout, area).values():
        theirs = seen["axes"][axis.name]
        assert axis.kind == theirs["type"].replace("-", "linear")
        span = abs(axis.limits[1] - axis.limits[0])
        assert axis.limits == pytest.approx(theirs["range"], abs=0.01 * span)
        if axis.settings.get("showticklabels", True) and axis.settings.get("visible", True):
            ours = [text for _, text in axis.ticks() if text]
            found = [text for text in map(plainly, theirs["ticks"]) if text]
            assert sorted(ours) == sorted(
                found
            )  # plotly lists those of an axis that runs down last


def plainly(text):
    raised = str.maketrans("0123456789-\N{MINUS SIGN}", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻")
    text = re.sub("<sup>(.*?)</sup>", lambda m: m[1].translate(raised), text.strip())
    return text.replace("<br>", "\n").replace("\N{ZERO WIDTH SPACE}", "")


LONG_TITLES = ("losses 6", "losses 14", "transitions")


@pytest.mark.parametrize(
    ("name", "width"), [*((name, 700) for name in CASES), *((name, 900) for name in LONG_TITLES)]
)
def test_nothing_is_cut_and_nothing_covers_the_title(shown, name, width):
    seen, figure = shown(name, width)
    for text, (left, top, right, bottom) in seen["texts"]:
        inside = left >= -1 and top >= -1 and right <= width + 1 and bottom <= seen["height"] + 1
        assert inside or not text.strip(), f"{text!r} is cut"
    for left, top, right, bottom in seen["title"]:
        b_left, b_top, b_right, b_bottom = seen["buttons"]
        assert right < b_left or bottom < b_top or top > b_bottom
        assert left >= 0
    wanted = [t for t in figure["data"] if t.get("showlegend")]
    if figure["layout"].get("showlegend"):
        assert len(seen["legend"]) == len(wanted) or not wanted


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("attention",)])
def test_labels_do_not_cover_one_another(shown, name):
    labels = shown(name)[0]["labels"]
    for i, (one, a) in enumerate(labels):
        for other, b in labels[:i]:
            overlap = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            assert min(overlap) < 3, f"{one!r} and {other!r} overlap by {overlap} px"
