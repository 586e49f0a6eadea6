"""Counterfactual expression of some genes: the columns of all genes, without computing these."""

import numpy as np
import pytest

TARGETS = ["donor_03", "population", "donor_01"]
GENES = [17, 3, 40, 3]
ROUNDING = 1e-6  # of sums in single precision, relative to the largest values


@pytest.fixture(scope="module")
def normalized(fit, cells):
    """Models whose output is normalised, by what."""
    models = {}
    for kind in ("layer", "batch"):
        settings = {"normalize_output": True, "normalization": kind}
        models[kind] = fit("SCMEDAL_RE", cells.copy(), model=settings)
    return models


@pytest.fixture
def followed(re):
    """The model with genes of which some follow the network's guess, and some do not."""
    follows = re.module.gene_effects.follows
    before = follows.clone()
    follows.fill_(0.0)
    follows[::2] = 1.0
    yield re
    follows.copy_(before)


def check(model, **options):
    def verb(**kwargs):
        return model.get_counterfactual_expression(
            transform_batch=TARGETS, return_numpy=True, **options, **kwargs
        )

    whole, part = verb(), verb(gene_list=list(model.adata.var_names[GENES]))
    for target in TARGETS:
        assert part[target].shape[-1] == len(GENES)
        np.testing.assert_allclose(
            part[target],
            whole[target][..., GENES],
            rtol=1e-6,
            atol=ROUNDING * np.abs(whole[target]).max(),
        )


@pytest.mark.parametrize("swap", ["content", "decoder", "encoder_decoder"])
@pytest.mark.parametrize("keep_residual", [False, True])
def test_equal_to_columns(followed, swap, keep_residual):
    check(followed, swap=swap, keep_residual=keep_residual)


@pytest.mark.slow
@pytest.mark.parametrize("swap", ["content", "encoder_decoder"])
def test_equal_to_columns_of_draws(followed, swap):
    check(followed, swap=swap, n_samples=3, return_mean=False)


@pytest.mark.parametrize("kind", ["layer", "batch"])
def test_equal_to_columns_of_a_normalised_output(normalized, kind):
    check(normalized[kind])


def test_equal_to_columns_in_the_papers_preset(fit, adata):
    check(fit("SCMEDAL_RE", adata, model={"preset": "paper"}))


def test_other_genes_are_not_computed(re):
    widths = []
    hook = re.module.output.register_forward_hook(lambda *args: widths.append(args[2].shape[-1]))
    dense = re.module.output.dense.register_forward_hook(lambda *args: widths.append("all"))
    re.get_counterfactual_expression(
        transform_batch=TARGETS, keep_residual=True, gene_list=list(re.adata.var_names[GENES])
    )
    hook.remove()
    dense.remove()
    assert set(widths) == {len(GENES)}
