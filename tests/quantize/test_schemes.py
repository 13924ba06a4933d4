from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import UsageError
from edgekit.quantize.schemes import Scheme, parse_scheme, require_supported, scheme_from_bits

kinds = st.sampled_from(["i", "fp"])
schemes = st.builds(
    Scheme,
    mode=st.sampled_from(["static", "dynamic", "weight_only"]),
    weight_kind=kinds,
    weight_bits=st.integers(1, 32),
    activation_kind=kinds,
    activation_bits=st.integers(1, 32),
)


@given(schemes)
def test_scheme_id_parses_back_to_the_scheme(scheme: Scheme) -> None:
    assert parse_scheme(scheme.id) == scheme


@pytest.mark.parametrize(
    "text", ["", "static", "static_w8_a8", "Static_wi8_ai8", "static_wi8_ai8 ", "static_wi8_ai888"]
)
def test_parse_scheme_refuses_text_outside_the_grammar(text: str) -> None:
    with pytest.raises(UsageError, match="static\\|dynamic\\|weight_only"):
        parse_scheme(text)


@pytest.mark.parametrize("bits", [4, 5, 6, 7, 8, "8", 8.0, "6.0"])
def test_scheme_from_bits_gives_static_integers(bits: float | str) -> None:
    scheme = scheme_from_bits(bits)
    assert scheme.id == f"static_wi{int(float(bits))}_ai8"
    require_supported(scheme)


@pytest.mark.parametrize("bits", [7.5, "7.5", 1, 0, -8, 9, 32, "eight", "nan", "inf", ""])
def test_scheme_from_bits_refuses_what_is_no_grid(bits: float | str) -> None:
    with pytest.raises(UsageError, match="whole number from 4 to 8"):
        scheme_from_bits(bits)


@pytest.mark.parametrize("text", ["dynamic_wimixed_ai8", "weight_only_wi4_afp32", "static_wfp8_ai8", "static_wi3_ai8"])
def test_require_supported_says_what_is_implemented(text: str) -> None:
    with pytest.raises(UsageError, match="not implemented"):
        require_supported(parse_scheme(text))
