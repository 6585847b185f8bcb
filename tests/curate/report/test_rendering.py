import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from curate.report import page, rendering


def test_an_asset_is_a_file_of_its_package() -> None:
    assert rendering.asset("curate", "palette.css").startswith(":root {")


def test_a_sheet_of_styles_begins_with_the_palette() -> None:
    palette = rendering.asset("curate", "palette.css")
    own = rendering.asset("curate.report", "style.css")
    assert rendering.styles("curate.report") == palette + own


def test_intervals_are_not_broken_over_lines_and_the_rest_is_escaped() -> None:
    assert rendering._unbroken("a<b 3.7\N{EN DASH}4.5") == Markup(
        'a&lt;b <span class="whole">3.7\N{EN DASH}4.5</span>'
    )


def test_a_block_is_allowed_by_the_hash_of_its_text() -> None:
    # of the empty text, as browsers state it
    assert rendering._source_hash("") == "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def test_a_template_gets_all_that_it_names() -> None:
    with pytest.raises(UndefinedError):
        page.render({})
