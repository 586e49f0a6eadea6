"""What is private in scvi-tools does what is expected of it."""

from scmedal_tools._compat import (
    copy_if_view,
    merge_kwargs,
    registered_manager,
    renew_identifier,
)


def test_arguments_of_a_call_win():
    assert merge_kwargs({"lr": 1, "eps": 2}, {"lr": 3}, name="plan") == {"lr": 3, "eps": 2}


def test_views_become_data_of_their_own(adata):
    view = adata[:10]
    copy_if_view(view, copy=True)
    assert not view.is_view


def test_a_registration_is_found_by_the_identifier(fit, adata):
    model = fit("SCMEDAL_FE", adata)
    assert registered_manager(model, adata) is model.adata_manager
    copy = adata.copy()
    assert registered_manager(model, copy) is model.adata_manager
    renew_identifier(copy)
    assert registered_manager(model, copy) is None
