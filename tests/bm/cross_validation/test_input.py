"""Results are not taken for those of another function."""

from functools import partial

import pytest

from scmedal_tools.bm._cross_validation._input import name_and_version


def method(adata, *, column=0, **_):
    return adata.X[:, [column]].toarray()


def test_a_function_is_known_by_its_version():
    first, second, other = (partial(method, column=i) for i in range(3))
    first.version = second.version = "1"
    other.version = "2"
    names = [name_and_version("mine", function, kept=True) for function in (first, second, other)]
    assert names[0] == names[1] != names[2]


def test_without_a_version_nothing_is_kept():
    assert name_and_version("mine", method, kept=False)
    with pytest.raises(ValueError, match=r"'mine' is a function.* function\.version = '1'"):
        name_and_version("mine", method, kept=True)


def test_a_name_stays_what_it_is():
    assert name_and_version("mine", "pca", kept=True) == "pca"
