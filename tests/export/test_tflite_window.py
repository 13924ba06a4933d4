"""Explicit padding against what TFLite's SAME and VALID really do."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from edgekit.export.tflite_window import WindowAxis


@st.composite
def axes(draw: st.DrawFn) -> tuple[WindowAxis, int]:
    """An axis, and the padding stated after its last element."""
    in_size, kernel, stride = draw(st.integers(1, 20)), draw(st.integers(1, 7)), draw(st.integers(1, 4))
    before, after = draw(st.integers(0, kernel - 1)), draw(st.integers(0, kernel - 1))
    assume(in_size + before + after >= kernel)
    out_size = (in_size + before + after - kernel) // stride + 1
    return WindowAxis(in_size=in_size, out_size=out_size, kernel=kernel, stride=stride, before=before), after


def first_positions(axis: WindowAxis, before: int) -> list[int]:
    return [step * axis.stride - before for step in range(axis.out_size)]


@given(axes())
def test_after_is_never_more_than_stated_and_covers_every_window(case: tuple[WindowAxis, int]) -> None:
    axis, stated = case
    last = first_positions(axis, axis.before)[-1] + axis.kernel - 1

    assert 0 <= axis.after <= stated
    assert last < axis.in_size + axis.after


@given(axes())
def test_same_is_claimed_only_for_the_windows_that_same_slides(case: tuple[WindowAxis, int]) -> None:
    axis, _ = case
    # TFLite, kernels/padding.h: output ceil(in / stride), the smaller half of the padding comes first
    out_size = -(-axis.in_size // axis.stride)
    total = max((out_size - 1) * axis.stride + axis.kernel - axis.in_size, 0)
    slides_alike = (out_size, total // 2) == (axis.out_size, axis.before)

    assert axis.is_same == slides_alike


@given(axes())
def test_valid_is_claimed_only_for_the_windows_that_valid_slides(case: tuple[WindowAxis, int]) -> None:
    axis, _ = case
    # TFLite, kernels/padding.h: output ceil((in - kernel + 1) / stride)
    out_size = -(-(axis.in_size - axis.kernel + 1) // axis.stride)

    assert axis.is_valid == (axis.before == 0 and out_size == axis.out_size)


@given(axes())
def test_padding_by_before_and_after_makes_any_axis_valid(case: tuple[WindowAxis, int]) -> None:
    axis, _ = case
    padded = WindowAxis(
        in_size=axis.in_size + axis.before + axis.after,
        out_size=axis.out_size,
        kernel=axis.kernel,
        stride=axis.stride,
        before=0,
    )

    assert padded.is_valid


def test_torch_stride_two_needs_padding_where_keras_does_not() -> None:
    torch_style = WindowAxis(in_size=224, out_size=112, kernel=3, stride=2, before=1)
    keras_style = WindowAxis(in_size=224, out_size=112, kernel=3, stride=2, before=0)

    assert (torch_style.is_same, torch_style.is_valid, torch_style.after) == (False, False, 0)
    assert keras_style.is_same
