"""Too little memory ends with what to do about it."""

import pytest
import torch

from scmedal_tools.model import _re
from scmedal_tools.model._memory_advice import memory_advice

SMALLER = "smaller batch_size"
CPU = "[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory"


def out_of_memory(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), RuntimeError(CPU)],
    ids=["GPU", "numpy", "processor"],
)
class TestErrors:
    @pytest.mark.slow
    def test_in_training(self, build, adata, monkeypatch, error):
        model = build("SCMEDAL_FE", adata)
        monkeypatch.setattr(model.module, "loss", out_of_memory(error))
        with pytest.raises(type(error)) as caught:
            model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
        assert SMALLER in caught.value.__notes__[0]
        assert "to train()" in caught.value.__notes__[0]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("owner", "step"), [(_re, "fit_gene_effects"), (_re.SCMEDAL_RE, "_infer")]
    )
    def test_after_the_last_epoch(self, build, adata, monkeypatch, error, owner, step):
        """A smaller minibatch, or fewer cells, would not help there."""
        error.__notes__ = []
        model = build("SCMEDAL_RE", adata)
        monkeypatch.setattr(owner, step, out_of_memory(error))
        with pytest.raises(type(error)) as caught:
            model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
        assert len(caught.value.__notes__) == 1
        assert "n_top_genes" in caught.value.__notes__[0]
        assert "model.finish()" in caught.value.__notes__[0]
        assert model.is_trained

    @pytest.mark.parametrize(
        "verb", ["get_latent_representation", "iter_expression", "get_batch_effects"]
    )
    def test_afterwards(self, trained, monkeypatch, error, verb):
        error.__notes__ = []
        monkeypatch.setattr(trained, "_infer", out_of_memory(error))
        with pytest.raises(type(error)) as caught:
            list(getattr(trained, verb)())
        assert SMALLER in caught.value.__notes__[0]
        assert "gene_list" in caught.value.__notes__[0]


@pytest.fixture(scope="module")
def trained(fit, cells):
    return fit("SCMEDAL_RE", cells.copy())


def test_the_processor_says_what_is_expected():
    with pytest.raises(RuntimeError) as caught, memory_advice("advice"):
        torch.empty(2**60)
    assert caught.value.__notes__ == ["advice"]


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("size of tensor a")])
def test_other_errors_are_left_alone(error):
    with pytest.raises(type(error)) as caught, memory_advice("advice"):
        raise error
    assert not hasattr(caught.value, "__notes__")
