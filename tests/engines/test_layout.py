"""Layouts: compressed columns of sparse blocks against SciPy's, labels, what is remembered."""

import numpy as np
import scipy.sparse as sp

from backsolve.engines.layout import Layout, Part

from .test_superlu import SIZES, in_blocks, random


def test_the_columns_are_those_of_scipy():
    A = random()
    layout, data = in_blocks(A, **SIZES)
    want = sp.csc_array(A)
    want.sort_indices()
    np.testing.assert_array_equal(layout.columns.indptr, want.indptr)
    np.testing.assert_array_equal(layout.columns.indices, want.indices)
    np.testing.assert_array_equal(layout.numbers(data), want.data)
    assert (layout.size, layout.nnz) == (10, want.nnz)


def test_numbers_of_several_dtypes():
    layout, data = in_blocks(random(), **SIZES)
    data[0] = data[0].astype(np.float32)
    assert layout.numbers(data).dtype == np.float64


def test_labels():
    layout, _ = in_blocks(random(), **SIZES)
    assert layout.column_label(0) == "node 0, entry 0 of 2"
    assert layout.column_label(5) == "node 1, entry 3 of 4"
    assert layout.column_label(9) == "node 3"
    assert layout.row_label(3) == "row 1"
    assert layout.row_label(9) == "row 3, entry 1 of 2"


def test_empty_parts_have_no_entries():
    layout = Layout((Part("a", 0), Part("b", 2)), (Part("c", 2), Part("d", 0)), (), ())
    assert (layout.size, layout.nnz) == (2, 0)
    assert layout.row_label(0) == "b, entry 0 of 2"
    assert layout.column_label(1) == "c, entry 1 of 2"
    assert layout.numbers([]).shape == (0,)


def test_work_is_done_once():
    layout, _ = in_blocks(random(), **SIZES)
    made = []
    for _ in range(3):
        assert layout.remember("key", lambda: made.append(1) or "value") == "value"
    assert made == [1]
    assert layout != in_blocks(random(), **SIZES)[0]
