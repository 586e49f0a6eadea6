"""An optional package."""

import sys

import numba
import pytest

COMPILED = ("scib_metrics", "umap", "pynndescent")


@pytest.fixture
def scib_metrics(monkeypatch):
    """As it is, but that what it imports is not compiled, which takes ten seconds."""
    before = set(sys.modules)
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    yield pytest.importorskip("scib_metrics")
    for name in set(sys.modules) - before:
        if name.startswith(COMPILED):  # or other tests had them slow
            del sys.modules[name]
