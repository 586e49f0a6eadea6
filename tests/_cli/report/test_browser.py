"""The reports in a real browser: nothing fails, nothing is missing, nothing sticks out."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow


def test_report_opens_without_errors_at_both_widths(report, browse):
    found, console = browse(report)
    assert console == []
    assert [page["width"] for page in found] == [400, 1400]
    for page in found:
        assert page["images"] > 2
        assert page["missing"] == []
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
