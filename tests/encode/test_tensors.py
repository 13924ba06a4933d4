"""How tensors are cut into pieces: everything once, whole bytes, no piece too large."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from edgekit.encode.tensors import ELEMENT_BITS, Cut, Element, TensorBytes, pieces_of


@given(
    st.sampled_from(("i4", "i8", "i32")),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(1, 40).map(lambda half: 2 * half),
)
def test_pieces_cover_a_tensor_with_whole_bytes_and_stay_small(element: Element, shape: list[int], most: int) -> None:
    length = (math.prod(shape) * ELEMENT_BITS[element] + 7) // 8
    cuts = pieces_of(TensorBytes("w", "tensor", element, tuple(shape), 100, length), most)
    offset = 100

    for cut in cuts:
        assert cut.offset == offset
        assert cut.outer * cut.inner <= most
        assert cut.outer * cut.inner * ELEMENT_BITS[element] == 8 * cut.length
        assert cut.inner % cut.kernel == 0
        offset += cut.length
    assert offset == 100 + length


def test_odd_number_of_nibbles_keeps_its_rows() -> None:
    cuts = pieces_of(TensorBytes("w", "tensor", "i4", (5, 3), 0, 8), 64)

    # the last row shares its last byte with the padding
    assert cuts == [Cut(0, 6, 4, 3), Cut(6, 2, 1, 4)]


def test_rows_of_odd_nibbles_that_fill_a_piece_become_a_sequence() -> None:
    cuts = pieces_of(TensorBytes("w", "tensor", "i4", (4, 5), 0, 10), 8)

    assert [(cut.outer, cut.inner) for cut in cuts] == [(1, 8), (1, 8), (1, 4)]
