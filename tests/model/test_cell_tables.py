"""A table that is filled minibatch by minibatch has every cell once, in order."""

import numpy as np
import pytest

from scmedal_tools.model._cell_tables import Rows

CELLS = np.arange(2 * 23 * 3, dtype=np.float32).reshape(2, 23, 3)


@pytest.mark.parametrize("n_cells", [0, 23, 40, 9], ids=["unknown", "known", "fewer", "more"])
@pytest.mark.parametrize("table", [CELLS, CELLS[0]], ids=["draws", "one"])
def test_has_all_cells_in_order(table, n_cells):
    rows = Rows(n_cells)
    for start in range(0, 23, 5):
        rows.add(table[..., start : start + 5, :])
    found = rows.table()
    np.testing.assert_array_equal(found, table)
    # No more memory is held than the cells take.
    assert (found if found.base is None else found.base).nbytes == table.nbytes
