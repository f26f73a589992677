"""Names are drawn in fonts that have their letters, or are called by number."""

import warnings

import pytest
from matplotlib.font_manager import FontProperties, fontManager

from vaekit.figures import fonts
from vaekit.figures.style import new_figure, png, style

NOWHERE = "\U0010fffd\U0010fffc"  # no font has private characters of the last plane


def test_usual_names_need_one_font():
    assert fonts.families(["cat", "Ångström", "ночь", "5"]) == ["DejaVu Sans"]
    assert fonts.drawable(("cat", "", " ", "ß")) == ("cat", "", " ", "ß")


def test_a_name_that_no_font_can_draw_is_called_by_its_number():
    assert fonts.drawable(("cat", NOWHERE, "dog " + NOWHERE)) == ("cat", "class 1", "class 2")
    assert fonts.families([NOWHERE]) == ["DejaVu Sans"]


@pytest.mark.filterwarnings("error")  # matplotlib warns of glyphs that it lacks
def test_letters_that_the_usual_font_lacks_come_from_another(monkeypatch):
    """With the usual font made poor, the letters come from the next that has them, and are drawn without a warning."""
    poor = fonts._main_characters() - {ord("Q")}
    monkeypatch.setattr(fonts, "_main_characters", lambda: poor)
    first, second = fonts.families(["Q"])
    assert first == "DejaVu Sans"
    assert ord("Q") in fonts._characters(fontManager.findfont(FontProperties(family=second)))
    assert fonts.drawable(["Q"]) == ("Q",)
    with style(["Q"]):
        figure = new_figure(100, 50)
        figure.text(0.1, 0.5, "Q")
        png(figure)


def test_fonts_are_asked_in_the_same_order_each_time():
    assert fonts._others() == fonts._others.__wrapped__()
    assert not any("Last Resort" in name for name, _ in fonts._others())  # it draws a box for everything


def test_matplotlib_itself_would_warn_of_such_a_name():
    """The oracle of the tests above: what the fonts lack is what matplotlib warns of."""
    with style(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure = new_figure(100, 50)
        figure.text(0.1, 0.5, NOWHERE)
        png(figure)
    assert any("lyph" in str(warning.message) for warning in caught)
