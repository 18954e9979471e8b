"""Notebook 02's sizing desk in JupyterLab, moved as a person moves it."""

import shutil
from pathlib import Path

import pytest

from toolkit.models import create_model
from toolkit.models.cost import measure

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def test_a_moved_slider_changes_the_picture_and_the_costs(page, start, address, tmp_path):
    from playwright.sync_api import expect

    folder = shutil.copytree(NOTEBOOKS, tmp_path / "project" / "notebooks")
    settings = tmp_path / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    news = settings / "notification.jupyterlab-settings"
    news.write_text('{"fetchNews": "false"}')  # else it asks, in front of the notebook
    process = start(
        *("jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"),
        f"--ServerApp.root_dir={folder}",
        TOOLKIT_FAST="1",
        TOOLKIT_DATA=str(tmp_path),  # nothing is there: the notebook makes a toy set
        JUPYTER_CONFIG_DIR=str(tmp_path / "config"),
        JUPYTER_DATA_DIR=str(tmp_path / "data"),
        JUPYTER_RUNTIME_DIR=str(tmp_path / "runtime"),
        IPYTHONDIR=str(tmp_path / "ipython"),
    )
    page.goto(address(process).replace("/lab?", "/lab/tree/02_architecture_and_anchors.ipynb?"))
    # not the light beside it, which is idle before there is a connection: what runs then is lost
    idle = page.get_by_text("Python 3 (ipykernel) | Idle")
    idle.wait_for()
    page.locator(".jp-Cell", has_text="Use the settings from above").click()  # the one below the desk
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Above Selected Cell").click()
    slider = page.locator(".widget-slider")
    desk = page.locator(".widget-html-content", has=page.locator("svg"))
    desk.wait_for()
    idle.wait_for()
    size = page.locator(".widget-dropdown", has=page.get_by_text("input", exact=True)).locator("select")
    expect(size).to_have_value("as it is")

    def now(what):
        return desk.locator("tr", has_text=what).locator("td").nth(2)

    def shown(width):
        cost = measure(create_model("fastest-v2", width=width))
        expect(slider.locator(".widget-readout")).to_have_text(f"{width:.2f}")
        expect(now("parameters")).to_have_text(f"{cost.params:,}")
        expect(now("MMAC")).to_have_text(f"{cost.macs / 1e6:.4g}")
        assert float(now("BFLOPs").inner_text()) == pytest.approx(cost.bflops, rel=1e-3)
        page.screenshot(path=tmp_path / f"at width {width}.png")
        return desk.locator("svg").screenshot()

    first = shown(1.0)
    for _ in range(4):
        slider.locator(".noUi-handle").press("ArrowLeft")
    assert shown(0.8) != first
    page.locator(".jp-Cell", has_text="desk.changes").first.click()
    page.keyboard.press("Shift+Enter")
    expect(page.get_by_text("create_model('fastest-v2', width=0.8)")).to_be_visible()
    for _ in range(4):
        slider.locator(".noUi-handle").press("ArrowRight")
    assert shown(1.0) == first
    assert page.locator("[data-mime-type$=error], [data-mime-type$=stderr]").count() == 0
