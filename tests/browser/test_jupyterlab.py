"""A notebook as a reader meets it: opened in JupyterLab by a double click, run, a slider moved."""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ROOT = Path(__file__).parents[2]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 150_000  # ms, for what takes a minute on an idle machine
NOTEBOOK = "004_osc_dplr.py"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture
def server(tmp_path):
    """The address of a JupyterLab over a copy of the notebooks, as `make lab` starts it."""
    shutil.copytree(
        ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns("*.ipynb")
    )
    settings = tmp_path / "config" / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    here = Path(sys.executable)
    command = [here.with_name("jupytext-config"), "--settings-file", settings, "set-default-viewer"]
    subprocess.run([*command, "python"], check=True, capture_output=True)
    token, port = secrets.token_hex(16), free_port()
    environment = {**os.environ, "JUPYTER_CONFIG_PATH": str(tmp_path / "config")}
    environment["PATH"] = f"{here.parent}{os.pathsep}{environment['PATH']}"
    with (tmp_path / "server.log").open("w") as log:
        lab = subprocess.Popen(
            [here, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}",
             "--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={token}",
             f"--ServerApp.root_dir={tmp_path}"],
            stdout=log, stderr=log, env=environment, cwd=tmp_path,
        )  # fmt: skip
        try:
            wait_for(f"http://127.0.0.1:{port}/api?token={token}", lab, tmp_path / "server.log")
            yield f"http://127.0.0.1:{port}/lab/tree/notebooks?token={token}"
        finally:
            lab.terminate()  # JupyterLab stops its kernels before it goes
            lab.wait(timeout=60)


@pytest.fixture
def page(server, tmp_path):
    """A browser page with JupyterLab on it; its screenshots are kept where LAB_SCREENSHOTS says."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(PATIENCE)
        page.shots = Path(os.environ.get("LAB_SCREENSHOTS", tmp_path))
        page.goto(server)
        page.get_by_role("button", name="No", exact=True).click()  # to news from Jupyter
        yield page
        page.screenshot(path=page.shots / "jupyterlab.png")
        browser.close()


def test_the_notebook_opens_runs_and_its_slider_moves_the_figure(page):
    page.get_by_role("listitem", name=re.compile(NOTEBOOK)).dblclick()
    notebook = page.locator(".jp-NotebookPanel:visible")
    notebook.get_by_role("heading", name="Can an oscillatory").wait_for()

    run_all(page)
    verdict = notebook.locator(".jp-OutputArea-output", has_text=re.compile(r"^verdict: ", re.M))
    verdict.last.wait_for()
    assert re.search(r"verdict: (PROCEED|DEBUG|ABANDON|INCONCLUSIVE)", verdict.last.inner_text())
    assert notebook.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0

    title = notebook.locator(".gtitle", has_text="The phase turns by")
    title.scroll_into_view_if_needed()
    before = title.text_content()
    slider = notebook.locator(".widget-slider", has_text="Δ").locator(".noUi-handle")
    slider.focus()
    slider.press("End")  # Δ = 1 s, at which the oscillators turn
    playwright.expect(title).not_to_have_text(before, timeout=PATIENCE)
    assert "of 0.01 s" in before
    assert "of 1 s" in title.text_content()
    panel = notebook.locator(".jp-OutputArea-child", has=title).last
    panel.screenshot(path=page.shots / "panel.png")


def run_all(page):
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(address, process, log, seconds=120):
    """Until the server answers; a server that has ended instead shows its log."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise AssertionError(f"JupyterLab did not answer within {seconds} s:\n{log.read_text()}")
