"""The job of a command's options."""

from dataclasses import fields

import pytest

from scmedal_tools._cli._evaluate_job import EvaluationJob

FIELDS = {field.name: None for field in fields(EvaluationJob)}


def test_is_made_of_the_options_of_its_fields_and_what_is_given():
    options = {name: None for name in FIELDS if name != "models"} | {"seed": 3, "path": "a.h5ad"}
    job = EvaluationJob.of_options(options, models=("pca",))
    assert (job.seed, job.models) == (3, ("pca",))


def test_a_field_without_a_value_is_an_error():
    options = {name: None for name in FIELDS if name not in ("scheme", "n_jobs")}
    with pytest.raises(TypeError, match="Neither an option nor given: n_jobs, scheme"):
        EvaluationJob.of_options(options)
    EvaluationJob.of_options(options, scheme="cells", n_jobs=1)
