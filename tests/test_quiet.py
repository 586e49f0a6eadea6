"""Lines of the libraries: gone where a model is trained without progress, kept elsewhere."""

from __future__ import annotations

import logging
import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

import scmedal_tools as smt
from scmedal_tools._quiet import quietly

LOGGERS = ("lightning.pytorch", "lightning.fabric", "scvi")
NETWORK = {"n_hidden": (16, 8), "n_latent": 4}


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@pytest.fixture
def said():
    """What the libraries say; they must be heard again afterwards."""
    kept, loggers = Kept(), [logging.getLogger(name) for name in LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(kept)
        logger.setLevel(logging.INFO)
    yield kept.lines
    assert [logger.level for logger in loggers] == [logging.INFO] * 3
    for logger, level in zip(loggers, before, strict=True):
        logger.removeHandler(kept)
        logger.setLevel(level)


def cross_validate(adata):
    settings = {"FE": NETWORK | {"max_epochs": 1}, "RE": NETWORK | {"max_epochs": 1}}
    smt.bm.cross_validate(
        adata, "donor", "cell_type", ["condition"], models=["FE", "RE"], controls=False,
        scheme="donors", n_folds=2, folds=[0], n_trees=2, settings=settings, progress=False,
    )  # fmt: skip


def compare(adata):
    common = {"batch_key": "donor", "labels_key": "cell_type", "progress": False}
    smt.ext.ae(adata, max_epochs=1, **NETWORK, **common)
    smt.ext.scanvi(adata, max_epochs=1, n_hidden=8, n_latent=4, **common)


def balance(adata):
    smt.bm.balance_weights(smt.model.SCMEDAL_FE, adata, batch_key="donor", epochs=1, **NETWORK)


@pytest.mark.slow
@pytest.mark.parametrize("train", [cross_validate, compare, balance])
def test_nothing_is_printed(train, adata, said, capfd):
    train(adata)
    assert said == []
    output = capfd.readouterr()
    assert (output.out, output.err) == ("", "")


def test_a_comparator_with_progress_is_as_scvi_tools_has_it(adata, said):
    smt.ext.ae(adata, batch_key="donor", max_epochs=1, **NETWORK)
    assert any("GPU available" in line for line in said)


@pytest.mark.slow
def test_of_a_notebook(fit, adata, said):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        smt.train.quiet()
        fit("SCMEDAL_RE", adata)
    assert said == []
    messages = [str(warning.message) for warning in found]
    assert not any("log_every_n_steps" in message for message in messages)
    assert any("4 batches are too few" in message for message in messages)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)


def test_a_logger_that_is_quieter_stays_so(said):
    logging.getLogger("scvi").setLevel(logging.ERROR)
    smt.train.quiet()
    assert [logging.getLogger(name).level for name in LOGGERS] == [30, 30, 40]
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)


def test_levels_are_restored_after_an_error(said):
    with pytest.raises(RuntimeError), quietly():
        raise RuntimeError
    assert said == []


def test_warnings_are_heard(said):
    with quietly():
        logging.getLogger("scvi").info("news")
        logging.getLogger("scvi").warning("a warning")
    assert said == ["a warning"]


def test_threads_do_not_restore_the_level_of_another(said):
    start = Barrier(4)

    def silent(_):
        start.wait()
        for _ in range(200):
            with quietly():
                pass

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(silent, range(4)))
