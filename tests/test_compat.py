"""What is private in scvi-tools does what is expected of it."""

from scvi.train import TrainerConfig, TrainingPlanConfig

from scmedal_tools._compat import (
    copy_if_view,
    given_settings,
    registered_manager,
    renew_identifier,
)


def test_defaults_of_a_config_are_not_given():
    assert given_settings(TrainerConfig(early_stopping_patience=3)) == {
        "early_stopping_patience": 3
    }
    assert given_settings(TrainingPlanConfig(lr=5e-4)) == {"lr": 5e-4}
    assert given_settings({"lr": 1e-3}) == {"lr": 1e-3}
    assert given_settings(None) == {}


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
