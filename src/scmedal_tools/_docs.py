"""Parts of docstrings that several functions share, for ``%(name)s`` in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docrep import DocstringProcessor

if TYPE_CHECKING:
    from collections.abc import Callable

_parts = DocstringProcessor(
    columns="""\
batch_key, labels_key
    Columns with the batches and the cell types.""",
    levels="""\
levels
    Level of each combination and factor, ``(n_combinations, n_factors)``.""",
    swap="""\
swap
    See :meth:`~scmedal_tools.model.SCMEDAL_RE.get_counterfactual_expression`.""",
    joint="""\
Joint, as in the paper (supplement 2.3.4): test cells take part in the PCA and in the
integration.""",
    network_seed="""\
seed
    Random state of the network, its training and, without validation cells, their draw.""",
    ax="""\
ax
    Axes to draw on, by default those of a new figure.""",
    save="""\
save
    File to write the figure to; its ending gives the format.""",
    axes="""\
Returns
-------
matplotlib.axes.Axes
    The figure made where `ax` is not given is one of pyplot's.""",
    figure="""\
Returns
-------
matplotlib.figure.Figure
    It shows itself as the last expression of a notebook cell, and is unknown to ``plt.show``.""",
    key="""\
Returns
-------
str
    The name in ``obsm``; see :func:`pca` for what is written.""",
    learned_labels="""\
labels_key
    Column with the cell types, which those of the training cells are learned from;
    ``"unlabeled"`` stands for "not known".""",
    progress="""\
progress
    Show a progress bar.""",
    splits="""\
splits
    Positions of the training, validation and test cells, as from
    :func:`scmedal_tools.train.stratified_split`; ``None``: all cells are for training.""",
    as_pca="""\
ValueError
    As :func:`pca`.""",
    not_re="""\
TypeError
    If the model is not a ``SCMEDAL_RE``.""",
    untrained="""\
RuntimeError
    If the model is not trained.""",
)


def with_shared_parts[F: "Callable"](function: F) -> F:
    """Fill in the parts that a docstring names."""
    return _parts.dedent(function)
