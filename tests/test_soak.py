"""A few random sequences of steps with cells and models; `benchmarks/soak.py` has many."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_of_file = spec_from_file_location("_soak", Path(__file__).parents[1] / "benchmarks" / "_soak.py")
_soak = module_from_spec(_of_file)
_of_file.loader.exec_module(_soak)

TestSoak = pytest.mark.slow(pytest.mark.usefixtures("one_thread")(_soak.Soak.TestCase))
TestSoak.settings = settings(
    max_examples=2,
    stateful_step_count=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.slow
def test_what_is_saved_goes_on(one_thread):
    """Few random sequences save a model."""
    soak = _soak.Soak()
    adata = soak.read(dense=False)
    trained = soak.train(adata=adata, name="SCMEDAL_RE", crossed=False)
    query = soak.add_a_donor(trained=trained, adata=adata)
    for model in (trained, query):
        for with_cells in (True, False):
            loaded = soak.save_and_load(trained=model, adata=adata, with_cells=with_cells)
            soak.effects(trained=loaded)
        soak.train_again(trained=model)
    soak.nothing_of_the_users_has_changed()
    soak.teardown()
