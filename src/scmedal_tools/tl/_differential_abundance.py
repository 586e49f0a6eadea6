"""Where among the cells one group of donors has more cells than another."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from scmedal_tools._data import (
    BATCH,
    as_named,
    check_argument,
    check_obs,
    part_of,
    random_cells,
    whole,
)
from scmedal_tools._docs import with_shared_parts
from scmedal_tools._relabelled import relabelled

from ._gene_test_checks import check_depth
from ._models import check_has_draws

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from scmedal_tools.model import SCMEDAL_RE

OF_DEPTH = (
    "cells of one depth lie together in the content. Thin the counts of the deeper cells "
    "(scanpy.pp.downsample_counts), train again, and see what remains"
)


@with_shared_parts
def differential_abundance(
    model: SCMEDAL_RE,
    adata: AnnData | MuData | None = None,
    *,
    group_key: str,
    reference: str | None = None,
    n_neighbors: int = 100,
    n_centres: int = 300,
    n_permutations: int = 2_000,
    depth_key: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Test where in the content one group of donors has more cells, with donors as the unit.

    Some cells are centres of neighbourhoods, the nearest cells by their content, which has little
    of the donor. The same number of cells is drawn from every donor, that of the donor with the
    fewest, so that donors with more cells are not measured more precisely; those in a
    neighbourhood are counted. The counts' square roots are compared by a t-test over donors, whose
    p-values come from permuting the group labels of the donors. Leave out donors that have too few
    cells for that.

    Parameters
    ----------
    model
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE`.
    adata
        Cells; ``None`` for those of the model.
    group_key
        Column of ``obs`` with two groups of donors; every donor is in one.
    reference
        Group that the other is compared with; ``None`` for the first in alphabetical order.
    n_neighbors
        Number of cells of a neighbourhood: several for each donor. The larger, the more power for
        broad differences, and the less for narrow ones.
    n_centres
        Number of neighbourhoods, whose centres are drawn at random.
    n_permutations
        If the groups can be given to the donors in so many ways or fewer, all of them are tried;
        otherwise as many are drawn.
    depth_key
        Column of ``obs`` with the total counts of each cell over all genes, for the warning of
        unequal depth: after :func:`~scmedal_tools.pp.preprocess`, ``"total_counts_all_genes"``.
        By default the sum of ``layers["counts"]``, or, without it, the number of expressed genes.
    seed
        Seed of the centres and of the draws.

    Returns
    -------
    pandas.DataFrame
        A row for each neighbourhood, by the name of the cell in its centre: ``share_reference``
        and ``share_group``, means over donors; ``log2_ratio`` of them; ``n_donors`` with cells
        there; ``statistic``, positive where the group has more; ``p_value``; and ``adj_p_value``,
        the share of the ways in which the largest statistic of *all* neighbourhoods is as large.

    Raises
    ------
    %(not_re)s
    ValueError
        If the column does not exist or has other than two groups, a donor is in both, a group has
        fewer than two donors, or there are fewer cells than neighbours.
    %(untrained)s

    Warns
    -----
    UserWarning
        If cells of one group have 1.25 times the depth of the other's or more: the content of a
        cell depends on its depth.

    Notes
    -----
    The adjusted p-value bounds the probability of one false finding or more, however the
    neighbourhoods overlap, if donors can be exchanged under the null hypothesis. With three donors
    in each group it cannot be below 0.1, with four not below 0.03. Shares are relative: if a group
    has more of some cells it has less of all others. Standard errors are raised by their median
    over the neighbourhoods, so that a share that hardly varies by chance does not win.

    References
    ----------
    Tusher et al., PNAS 2001 (the raised standard errors); Westfall and Young 1993 (the largest
    statistic); Dann et al., Nature Biotechnology 2022 (neighbourhoods).

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> found = smt.tl.differential_abundance(
    ...     model, group_key="condition", n_neighbors=20, n_centres=50
    ... )
    >>> found.shape
    (50, 7)
    >>> bool(found["adj_p_value"].min() >= 1 / 6)  # two of four donors
    True
    """
    check_has_draws(model, 1)
    check_argument("n_neighbors", n_neighbors, whole())
    check_argument("n_centres", n_centres, whole())
    check_argument("n_permutations", n_permutations, whole())
    cells = model.adata if adata is None else adata
    setup = model.registry["setup_args"]
    part = part_of(cells, setup, BATCH)
    check_obs(part, group_key, what="group_key")
    groups = part.obs[group_key].astype(str)
    names = sorted(groups.unique())
    if len(names) != 2:
        raise ValueError(f"group_key={group_key!r} has {len(names)} groups, {names}: two needed.")
    if reference is not None and reference not in names:
        raise ValueError(f"reference={reference!r} is not one of the groups, {names}.")
    reference = reference or names[0]
    donors = pd.Categorical(as_named(part.obs[setup["batch_key"]]))
    of_donors = groups.groupby(donors.codes).agg(["first", "nunique"])
    if (of_donors["nunique"] > 1).any():
        raise ValueError(f"group_key={group_key!r}: a donor is in both groups.")
    in_group = (of_donors["first"] != reference).to_numpy()
    if min(in_group.sum(), (~in_group).sum()) < 2:
        raise ValueError(f"group_key={group_key!r}: each group needs two donors or more.")
    if not 1 <= n_neighbors <= part.n_obs:
        raise ValueError(
            f"n_neighbors={n_neighbors} has to lie between 1 and the number of cells, "
            f"{part.n_obs:,}."
        )
    group = next(name for name in names if name != reference)
    named = groups.groupby(part.obs[setup["batch_key"]].to_numpy()).first()
    content = model.get_latent_representation(adata, kind="content")
    check_depth(cells, setup, named, group, reference, depth_key, OF_DEPTH)
    centres = random_cells(np.arange(len(content)), n_centres, seed)
    search = NearestNeighbors(n_neighbors=n_neighbors).fit(content)
    neighbors = search.kneighbors(content[centres], return_distance=False)
    counts = counts_of_donors(neighbors, donors.codes, len(in_group))
    sizes = np.bincount(donors.codes)
    drawn = counts_of_donors(
        neighbors, donors.codes, len(in_group), equally_many(donors.codes, seed)
    )
    test = compare(drawn, in_group, n_permutations, seed)
    shares = counts / sizes[:, None]
    of_groups = [shares[rows].mean(0) for rows in (~in_group, in_group)]
    half_a_cell = 0.5 / np.median(sizes)
    return pd.DataFrame(
        {
            "share_reference": of_groups[0],
            "share_group": of_groups[1],
            "log2_ratio": np.log2((of_groups[1] + half_a_cell) / (of_groups[0] + half_a_cell)),
            "n_donors": (counts > 0).sum(0),
            **test._asdict(),
        },
        index=part.obs_names[centres],
    )


def counts_of_donors(
    neighbors: np.ndarray, donor: np.ndarray, n_donors: int, counted: np.ndarray | None = None
) -> np.ndarray:
    """Cells of each donor in each neighbourhood, donors x neighbourhoods; only those counted."""
    counts = np.zeros((n_donors, len(neighbors)))
    number = 1.0 if counted is None else counted[neighbors]
    np.add.at(counts, (donor[neighbors], np.arange(len(neighbors))[:, None]), number)
    return counts


def equally_many(donor: np.ndarray, seed: int) -> np.ndarray:
    """Whether each cell is one of as many of its donor as the donor with the fewest cells has."""
    order = pd.Series(np.random.default_rng(seed).random(len(donor)))
    return (order.groupby(donor).rank() <= np.bincount(donor).min()).to_numpy()


class Comparison(NamedTuple):
    """Comparison of every neighbourhood between two groups of donors."""

    statistic: np.ndarray
    p_value: np.ndarray
    adj_p_value: np.ndarray


def compare(
    counts: np.ndarray, in_group: np.ndarray, n_permutations: int, seed: int
) -> Comparison:
    """Compare the numbers of cells between groups of donors.

    Parameters
    ----------
    counts
        Cells of each donor in each neighbourhood, of as many of every donor; donors x
        neighbourhoods.
    in_group
        Whether a donor is of the group.
    """
    # Of Freeman and Tukey: their variance hardly depends on the share.
    roots = np.sqrt(counts) + np.sqrt(counts + 1)
    observed = _statistics(roots, in_group)
    ways, n_ways = relabelled(in_group.astype(int), n_permutations, seed)
    as_large, largest_as_large = np.zeros(len(observed)), np.zeros(len(observed))
    limit = np.abs(observed) - 1e-9
    for way in ways:
        found = np.abs(_statistics(roots, way.astype(bool)))
        as_large += found >= limit
        largest_as_large += found.max() >= limit
    return Comparison(observed, as_large / n_ways, largest_as_large / n_ways)


def _statistics(roots: np.ndarray, in_group: np.ndarray) -> np.ndarray:
    groups = roots[~in_group], roots[in_group]
    difference = groups[1].mean(0) - groups[0].mean(0)
    squares = sum(np.square(of - of.mean(0)).sum(0) for of in groups)
    of_means = sum(1 / len(of) for of in groups)
    error = np.sqrt(squares / (len(roots) - 2) * of_means)
    raised = error + np.median(error)
    return np.divide(difference, raised, out=np.zeros_like(raised), where=raised > 0)
