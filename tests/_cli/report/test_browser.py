"""The reports in a real browser: nothing fails, nothing is missing, nothing sticks out."""

from __future__ import annotations

import pytest
from PIL import Image

from scmedal_tools._cli._report._page import Picture, Section, write_page

pytestmark = pytest.mark.slow


def test_report_opens_without_errors_at_both_widths(report, browse):
    found, console = browse(report)
    assert console == []
    assert [page["width"] for page in found] == [400, 1400]
    for page in found:
        assert page["images"] > 2
        assert page["missing"] == []
        assert page["beyond"] == 0


def test_a_click_on_a_figure_shows_it_in_full_size(tmp_path, browse):
    Image.new("RGB", (900, 100), "red").save(tmp_path / "wide.png")
    section = Section("x", pictures=[Picture(tmp_path / "wide.png", "red", "A figure.")])
    write_page(tmp_path / "page.html", "t", "l", [section])
    found, _ = browse(tmp_path / "page.html")
    narrow, wide = (page["fitted"] for page in found)
    assert narrow[0] < 400
    assert wide[0] >= 900
    for page in found:
        assert page["clicked"][0] >= 900
        assert page["beyond"] == 0


def test_the_browser_would_tell(tmp_path, browse):
    """What the other test finds absent is found where it is there."""
    broken = tmp_path / "broken.html"
    broken.write_text(
        '<!DOCTYPE html><img src="absent.png" alt="lost"><div style="width: 900px">wide</div>'
        '<script>console.error("said"); nothing.there</script>'
    )
    found, console = browse(broken)
    assert [page["missing"] for page in found] == [["lost"], ["lost"]]
    assert found[0]["beyond"] > 400
    assert found[1]["beyond"] == 0
    assert any("said" in line for line in console)
    assert any("nothing is not defined" in line for line in console)
