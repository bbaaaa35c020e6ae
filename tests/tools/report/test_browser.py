"""The report in a real browser: nothing to complain of, every picture there, no wider than a phone."""

import pytest

pytestmark = pytest.mark.browser
BROKEN = "[...document.images].filter(image => !(image.complete && image.naturalWidth > 0)).map(image => image.alt)"
TOO_WIDE = "document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"


@pytest.fixture
def pages(made):
    """The report and a notebook's page, as addresses."""
    wide = [{"output_type": "stream", "name": "stdout", "text": "wide " * 200}]
    made.execute("02_teacher", "bbbb", made.notebook(r"# Two: $A(F) = \sum_c |F_c|^2$", ("wide()", wide)))
    made.build()
    return [(made.figures / name).as_uri() for name in ("index.html", "notebooks/02_teacher.html")]


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_are_whole_at_every_width(browser, pages, width):
    for address in pages:
        browser.open(address, width)
        assert browser.value("document.images.length") > 0
        assert browser.value(BROKEN) == []
        assert browser.value(TOO_WIDE) == 0
        assert browser.value("document.scrollingElement.scrollWidth") <= width
        assert browser.errors() == []
        assert browser.requests() == [address]


def test_tables_scroll_within_themselves(browser, pages):
    browser.open(pages[0])
    boxes = "[...document.querySelectorAll('.scroll')]"
    assert browser.value(f"{boxes}.some(box => box.scrollWidth > box.clientWidth)")
    assert browser.value(f"{boxes}.every(box => box.tabIndex === 0)")


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_colours_follow_the_reader(browser, pages, scheme, dark):
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    for address in pages:
        browser.open(address)
        colour = browser.value("getComputedStyle(document.body).backgroundColor")
        red = int(colour.removeprefix("rgb(").split(",")[0])
        assert (red < 64) is dark
    browser.call("Emulation.setEmulatedMedia", features=[])


def test_the_keyboard_comes_to_the_content_first(browser, pages):
    browser.open(pages[0])
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert browser.value("document.activeElement.getAttribute('href')") == "#main"
    assert browser.value("document.activeElement.getBoundingClientRect().left") >= 0
