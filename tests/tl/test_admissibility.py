"""Support of cells in donors."""

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

from scmedal_tools import tl
from scmedal_tools.tl._admissibility import supported


class TestAdmissibility:
    def test_is_where_a_donor_has_cells(self):
        """Two donors share one cloud of cells; the first alone has the other, of 3 the second."""
        rng = np.random.default_rng(0)
        here, there = rng.normal(0, 1, (200, 3)), rng.normal(20, 1, (200, 3))
        donors = [np.vstack([here[:100], there[:100]]), np.vstack([here[100:], there[197:]])]
        mask = supported(np.vstack([here, there]), donors, 5, 0.95)
        assert mask[:200].mean() > 0.9
        assert mask[200:, 0].mean() > 0.9
        assert not mask[200:, 1].any()

    def test_coverage_is_that_of_a_donors_own_cells(self):
        cells = np.random.default_rng(0).normal(size=(300, 2))
        mask = supported(cells[150:], [cells[:150]], 4, 0.8)
        own = NearestNeighbors(n_neighbors=5).fit(cells[:150]).kneighbors(cells[:150])[0][:, -1]
        of_others = NearestNeighbors(n_neighbors=4).fit(cells[:150]).kneighbors(cells[150:])[0]
        np.testing.assert_array_equal(mask[:, 0], of_others[:, -1] <= np.quantile(own, 0.8))

    def test_as_many_training_cells_of_a_donor_as_the_coverage_says(self):
        """Also where a cell is not exactly where it was."""
        cells = np.random.default_rng(0).normal(size=(150, 2))
        mask = supported(cells + 1e-6, [cells], 4, 0.8)
        assert mask.mean() == pytest.approx(0.8, abs=0.01)

    def test_a_donor_of_few_cells_supports_nothing(self):
        cells = np.random.default_rng(0).normal(size=(50, 2))
        assert not supported(cells, [cells, cells[:5]], 5, 0.95)[:, 1].any()

    def test_of_a_model(self, trained, cells):
        mask = tl.admissibility(trained)
        assert list(mask.columns) == list(trained.batch_names)
        assert list(mask.index) == list(cells.obs_names)
        own = [mask.loc[name, donor] for name, donor in cells.obs["donor"].items()]
        assert np.mean(own) > 0.8
        pd.testing.assert_frame_equal(tl.admissibility(trained, cells[:30].copy()), mask[:30])
        with pytest.raises(ValueError, match="coverage=1"):
            tl.admissibility(trained, coverage=1)
