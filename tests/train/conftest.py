"""Networks trained for four steps."""

import pytest

from .four_steps import LABELS, SPLIT


@pytest.fixture
def trained(fit, adata):
    """Give a function that trains a model for ``N_STEPS`` steps."""

    def trained(name, **kwargs):
        split = {"external_indexing": SPLIT}
        return fit(name, adata, LABELS, datasplitter_kwargs=split, **kwargs)

    return trained
