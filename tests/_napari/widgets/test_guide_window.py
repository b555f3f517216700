"""The "?" of every panel, and the window that it opens."""

from importlib import import_module
from pathlib import Path

import pytest
import yaml
from napari.components import ViewerModel
from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QPushButton

import napari_cnnvis
from napari_cnnvis._napari.widgets.guide_window import GuideWindow
from napari_cnnvis.guide import page, pages

MANIFEST = yaml.safe_load((Path(napari_cnnvis.__file__).parent / "napari.yaml").read_text())
_COMMANDS = {c["id"]: c["python_name"] for c in MANIFEST["contributions"]["commands"]}
PANELS = {
    widget["display_name"]: _COMMANDS[widget["command"]]
    for widget in MANIFEST["contributions"]["widgets"]
}


@pytest.fixture
def opened(monkeypatch):
    """Addresses that were opened in the browser."""
    found = []
    monkeypatch.setattr(
        QDesktopServices, "openUrl", staticmethod(lambda url: found.append(url.toString()))
    )
    return found


@pytest.mark.parametrize("name", PANELS)
def test_each_panel_opens_its_page(qtbot, opened, name):
    module, _, panel_class = PANELS[name].partition(":")
    panel = getattr(import_module(module), panel_class)(ViewerModel())
    qtbot.addWidget(panel)
    button = panel.findChild(QPushButton, "help")
    assert button.text() == "?"
    button.click()
    (window,) = panel.findChildren(GuideWindow)
    assert window.isVisible()
    assert window.windowTitle() == f"Guide: {name}"
    assert not opened


def formats_of(browser):
    block = browser.document().begin()
    while block.isValid():
        fragments = block.begin()
        while not fragments.atEnd():
            yield fragments.fragment().charFormat()
            fragments += 1
        block = block.next()


def links_of(browser):
    return {form.anchorHref() for form in formats_of(browser) if form.isAnchor()}


def test_links_lead_from_page_to_page(qtbot, opened):
    window = GuideWindow(None, "index")
    qtbot.addWidget(window)
    assert not window.back.isEnabled()
    links = links_of(window.browser)
    assert len(links) == len(pages()) - 1
    for link in links:
        window.browser._follow(QUrl(link))
        assert f"{window.shown}.md" == link
        window.contents.click()
        assert window.shown == "index"
    window.browser._follow(QUrl("trust.md"))
    window.back.click()
    assert window.shown == "index"
    assert not opened


def test_the_web_is_opened_by_a_click_only(qtbot, opened):
    window = GuideWindow(None, "methods")
    qtbot.addWidget(window)
    assert not opened
    window.browser._follow(QUrl("https://doi.org/10.1145/3299869.3319874"))
    assert opened == ["https://doi.org/10.1145/3299869.3319874"]
    assert window.shown == "methods"
    window.browser._follow(QUrl("file:///etc/hosts"))
    assert window.shown == "methods"


def test_links_are_readable_on_dark_and_light(qtbot):
    window = GuideWindow(None, "index")
    qtbot.addWidget(window)
    shades = {
        f.foreground().color().lightness() for f in formats_of(window.browser) if f.isAnchor()
    }
    assert all(100 < shade < 180 for shade in shades)


@pytest.mark.parametrize("name", pages())
def test_pictures_fit_the_window(qtbot, name):
    window = GuideWindow(None, name)
    qtbot.addWidget(window)
    window.show()
    for width in (760, 500):
        window.resize(width, 500)
        qtbot.wait(10)
        images = images_of(window.browser)
        assert len(images) == page(name).read_text("utf-8").count("](pictures/")
        for image in images:
            assert not image.isNull()
            assert 100 < image.width() < width


def images_of(browser):
    kind = browser.document().ResourceType.ImageResource
    names = {form.toImageFormat().name() for form in formats_of(browser) if form.isImageFormat()}
    return [browser.document().resource(kind, QUrl(name)) for name in names]
