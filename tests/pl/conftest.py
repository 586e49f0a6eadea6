"""Figures go nowhere, and none stays open."""

import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def _no_display(monkeypatch):
    plt.switch_backend("agg")
    monkeypatch.setattr(plt, "show", lambda *_, **__: pytest.fail("plt.show was called"))
    yield
    plt.close("all")
