"""Whether the data support a statement on a cell in a donor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS
from sklearn.neighbors import NearestNeighbors

from scmedal_tools._data import EXPRESSION, check_argument, number, part_of, whole
from scmedal_tools._docs import with_shared_parts
from scmedal_tools.model import training_indices

from ._models import check_has_draws

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from scmedal_tools.model import SCMEDAL_RE


# Distance, of that to other cells, below which a cell is the same.
SAME = 1e-3


@with_shared_parts
def admissibility(
    model: SCMEDAL_RE,
    adata: AnnData | MuData | None = None,
    *,
    n_neighbors: int = 5,
    coverage: float = 0.95,
) -> pd.DataFrame:
    r"""Find for which cells and donors a counterfactual is supported by measured cells.

    A cell is supported in a donor if ``n_neighbors`` training cells of the donor have a content
    near that of the cell: no further than training cells have as many of their *own* donor.
    Elsewhere "this cell in that donor" is an extrapolation: what the model says comes from other
    cells of the donor, and from other donors.

    Parameters
    ----------
    model
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE` that holds its training cells.
    adata
        Cells; ``None`` for those of the model.
    n_neighbors
        Number of near cells of a donor that count as support.
    coverage
        Share of a donor's own training cells that are to be supported in it, in the median donor:
        it says how near is near.

    Returns
    -------
    pandas.DataFrame
        Cells x donors, whether there is support.

    Raises
    ------
    %(not_re)s
    ValueError
        If the model does not have its training cells, or a number is outside its range.
    %(untrained)s

    Notes
    -----
    Content still has something of the donor: cells of other donors look further away than they
    are, and the mask is too strict. The same distance holds for all donors, so that
    a donor of few cells, scattered over many types, supports little. Where all donors have few
    cells, some of them far from all others, the distance is so large that cells of a type that a
    donor lacks count as supported: look at the mask of such a type first.

    References
    ----------
    Boyeau et al., Nature Methods 2025 (MrVI), on admissible samples.

    Examples
    --------
    Share of the cells of each type that have support in each donor:

    >>> import scmedal_tools as smt
    >>> supported = smt.tl.admissibility(model)
    >>> supported.groupby(adata.obs["cell_type"], observed=True).mean().shape
    (3, 4)
    """
    check_has_draws(model, 1)
    check_argument("n_neighbors", n_neighbors, whole())
    check_argument("coverage", coverage, number(lambda x: 0 < x < 1, "has to be a share below 1"))
    train = training_indices(model)
    batch = model.adata_manager.get_from_registry(REGISTRY_KEYS.BATCH_KEY).reshape(-1)[train]
    known = model.get_latent_representation(indices=train, kind="content")
    cells = part_of(model.adata if adata is None else adata, model.registry["setup_args"],
                    EXPRESSION)  # fmt: skip
    content = model.get_latent_representation(adata, kind="content")
    names = [str(name) for name in model.batch_names]
    by_donor = [known[batch == code] for code in range(len(names))]
    return pd.DataFrame(
        supported(content, by_donor, n_neighbors, coverage), cells.obs_names, names
    )


def supported(
    content: np.ndarray, by_donor: list[np.ndarray], n_neighbors: int, coverage: float
) -> np.ndarray:
    """Whether cells have near ones in each donor, cells x donors.

    Parameters
    ----------
    content
        Cells x dimensions.
    by_donor
        Contents of the training cells of each donor.
    n_neighbors, coverage
        See :func:`admissibility`.
    """
    distances = np.full((len(content), len(by_donor)), np.inf)
    radii = []
    for donor, known in enumerate(by_donor):
        if len(known) > n_neighbors:
            search = NearestNeighbors(n_neighbors=n_neighbors + 1).fit(known)
            own = search.kneighbors(n_neighbors=n_neighbors)[0][:, -1]
            radii.append(np.quantile(own, coverage))
            found = search.kneighbors(content)[0]
            # A training cell is no neighbour of itself, as it was none for the radius.
            is_known = found[:, 0] < SAME * np.median(own)
            distances[:, donor] = np.where(is_known, found[:, -1], found[:, -2])
    return distances <= (np.median(radii) if radii else -np.inf)
