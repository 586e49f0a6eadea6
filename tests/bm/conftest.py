"""An optional package."""

import sys
from types import SimpleNamespace

import pytest


@pytest.fixture
def scib_metrics(monkeypatch):
    """Without its search for neighbours in trees, which compiles for ten seconds when imported."""
    monkeypatch.setitem(sys.modules, "pynndescent", SimpleNamespace(NNDescent=None))
    return pytest.importorskip("scib_metrics")
