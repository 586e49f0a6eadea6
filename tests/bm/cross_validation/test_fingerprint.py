"""Functions are told from each other by all that their results depend on."""

from functools import partial

import pytest

from scmedal_tools.bm._cross_validation._fingerprint import describe

FACTOR = 2


def in_one_column(adata, *, column=0, **_):
    return adata.X[:, [column]].toarray()


def closure(column):
    return lambda adata, **_: adata.X[:, [column]].toarray()


def with_default(column):
    def method(adata, column=column, **_):
        return adata.X[:, [column]].toarray()

    return method


class OfColumn:
    def __init__(self, column):
        self.column = column

    def __call__(self, adata, **_):
        return adata.X[:, [self.column]].toarray()

    def method(self, adata, **_):
        return self(adata)


def with_global(adata, **_):
    return adata.X * FACTOR


def calls_with_global(adata, **_):
    return with_global(adata)


def calls_itself(n):
    return calls_itself(n - 1) if n else n


@pytest.mark.parametrize(
    "made",
    [
        lambda i: partial(in_one_column, column=i),
        closure,
        with_default,
        OfColumn,
        lambda i: OfColumn(i).method,
        lambda i: partial(closure(i)),
    ],
)
def test_other_values_make_another_function(made):
    assert describe(made(0)) == describe(made(0))
    assert describe(made(0)) != describe(made(1))


@pytest.mark.parametrize("method", [with_global, calls_with_global])
def test_other_globals_make_another_function(method, monkeypatch):
    before = describe(method)
    assert describe(method) == before
    monkeypatch.setitem(globals(), "FACTOR", 3)
    assert describe(method) != before


def test_a_function_that_calls_itself_has_a_digest():
    assert describe(calls_itself) == describe(calls_itself)


def test_what_cannot_be_told_from_others_is_new_each_time():
    unknown = partial(in_one_column, other=(i for i in range(3)))
    assert describe(unknown) != describe(unknown)


def test_a_name_stays_what_it_is():
    assert describe("pca") == "pca"
