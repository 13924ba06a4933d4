from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import DataError, GraphError, UsageError
from edgekit.core.preprocessing import Interpolation, PreprocessSpec
from edgekit.core.quant import QuantParams
from edgekit.runtime.preprocess import fit_picture, normalize, to_input
from edgekit.runtime.tensor import Layout, TensorSpec, TensorType

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def spec_of(
    *, size: tuple[int, int] = (12, 10), channels: int = 3, crop: float = 1.0, interpolation: Interpolation = "bilinear"
) -> PreprocessSpec:
    return PreprocessSpec(
        input_size=size,
        num_channels=channels,
        mean=_MEAN[:channels],
        std=_STD[:channels],
        crop_fraction=crop,
        interpolation=interpolation,
    )


def tensor_of(
    spec: PreprocessSpec, dtype: TensorType, layout: Layout, scale: float | None = None, zero_point: int | None = None
) -> TensorSpec:
    height, width = spec.input_size
    channels = spec.num_channels
    shape = (1, height, width, channels) if layout == "NHWC" else (1, channels, height, width)
    return TensorSpec(name="x", shape=shape, dtype=dtype, layout=layout, scale=scale, zero_point=zero_point)


def every_pixel_value(channels: int) -> np.ndarray:
    """uint8 [1, 16, 16, channels] that holds each of the 256 values in each channel, in different places."""
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    return np.concatenate([np.roll(values, shift, axis=1) for shift in range(channels)], axis=3)


class TestNormalize:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_normalize_equals_the_formula_in_float64(self, channels: int) -> None:
        pictures = every_pixel_value(channels)
        expected = (pictures / 255 - np.array(_MEAN[:channels])) / np.array(_STD[:channels])
        normalized = normalize(pictures, spec_of(channels=channels))
        np.testing.assert_array_equal(normalized, expected.astype(np.float32).transpose(0, 3, 1, 2))
        assert normalized.flags.c_contiguous

    def test_normalize_gives_an_empty_batch_when_there_are_no_pictures(self) -> None:
        assert normalize(np.empty((0, 12, 10, 3), np.uint8), spec_of()).shape == (0, 3, 12, 10)

    def test_normalize_takes_a_strided_view(self) -> None:
        wide = np.random.default_rng(0).integers(0, 256, (2, 12, 20, 3), np.uint8)
        np.testing.assert_array_equal(
            normalize(wide[:, :, ::2], spec_of()), normalize(wide[:, :, ::2].copy(), spec_of())
        )

    def test_normalize_refuses_float_pictures(self) -> None:
        with pytest.raises(DataError, match="float32"):
            normalize(np.zeros((1, 12, 10, 3), np.float32), spec_of())  # pyright: ignore[reportArgumentType]

    def test_normalize_refuses_a_spec_whose_mean_lacks_a_channel(self) -> None:
        spec = PreprocessSpec(input_size=(4, 4), num_channels=3, mean=(0.5,), std=(0.5,))
        with pytest.raises(UsageError, match="expected 3 of each"):
            normalize(np.zeros((1, 4, 4, 3), np.uint8), spec)


class TestToInput:
    @given(
        dtype=st.sampled_from(["int8", "uint8"]),
        layout=st.sampled_from(["NHWC", "NCHW"]),
        channels=st.sampled_from([1, 3]),
        scale=st.floats(2**-13, 4.0, width=32),
        offset=st.integers(0, 255),
    )
    def test_to_input_is_quantize_of_normalize_when_the_input_has_a_grid(
        self, dtype: TensorType, layout: Layout, channels: int, scale: float, offset: int
    ) -> None:
        spec = spec_of(size=(16, 16), channels=channels)
        zero_point = offset - 128 if dtype == "int8" else offset
        tensor = tensor_of(spec, dtype, layout, scale, zero_point)
        grid = QuantParams(
            scale=np.array([scale], np.float32), zero_point=np.array([zero_point], np.int32), signed=dtype == "int8"
        )
        pictures = every_pixel_value(channels)
        expected = grid.quantize(normalize(pictures, spec)).astype(dtype)
        made = to_input(pictures, spec, tensor)
        np.testing.assert_array_equal(made, expected if layout == "NCHW" else expected.transpose(0, 2, 3, 1))
        assert made.dtype == dtype
        assert made.flags.c_contiguous

    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    @pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
    def test_to_input_is_normalize_in_the_files_layout_when_the_input_is_float(
        self, dtype: TensorType, layout: Layout
    ) -> None:
        spec = spec_of(size=(16, 16))
        pictures = every_pixel_value(3)
        expected = normalize(pictures, spec).astype(dtype)
        made = to_input(pictures, spec, tensor_of(spec, dtype, layout))
        np.testing.assert_array_equal(made, expected if layout == "NCHW" else expected.transpose(0, 2, 3, 1))
        assert made.dtype == dtype

    def test_to_input_passes_pixels_through_when_the_grid_is_the_pixels_own(self) -> None:
        spec = PreprocessSpec(input_size=(16, 16), mean=(128 / 255,) * 3, std=(1 / (255 * 0.0078125),) * 3)
        pictures = every_pixel_value(3)
        made = to_input(pictures, spec, tensor_of(spec, "uint8", "NHWC", 0.0078125, 128))
        assert np.shares_memory(made, pictures)

    def test_to_input_passes_pixels_through_when_uint8_has_no_grid(self) -> None:
        spec = spec_of(size=(16, 16))
        pictures = every_pixel_value(3)
        np.testing.assert_array_equal(to_input(pictures, spec, tensor_of(spec, "uint8", "NHWC")), pictures)

    def test_to_input_refuses_int8_without_a_grid(self) -> None:
        spec = spec_of(size=(16, 16))
        with pytest.raises(GraphError, match="without scale"):
            to_input(every_pixel_value(3), spec, tensor_of(spec, "int8", "NHWC"))

    def test_to_input_names_both_sizes_when_they_differ(self) -> None:
        with pytest.raises(UsageError, match=r"\[12, 10, 3\].*\[16, 16, 3\]"):
            to_input(every_pixel_value(3), spec_of(), tensor_of(spec_of(), "uint8", "NHWC"))

    def test_to_input_gives_an_empty_batch_when_there_are_no_pictures(self) -> None:
        tensor = tensor_of(spec_of(), "int8", "NHWC", 0.1, 0)
        assert to_input(np.empty((0, 12, 10, 3), np.uint8), spec_of(), tensor).shape == (0, 12, 10, 3)


class TestFitPicture:
    @given(
        height=st.integers(1, 300),
        width=st.integers(1, 300),
        channels=st.sampled_from([1, 3]),
        spec=st.builds(
            spec_of,
            size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
            channels=st.sampled_from([1, 3]),
            crop=st.floats(0.1, 1.0),
            interpolation=st.sampled_from(["bilinear", "bicubic", "area"]),
        ),
    )
    def test_fit_picture_has_the_input_shape_and_keeps_a_flat_colour(
        self, height: int, width: int, channels: int, spec: PreprocessSpec
    ) -> None:
        fitted = fit_picture(np.full((height, width, channels), 77, np.uint8), spec)
        assert fitted.shape == (*spec.input_size, spec.num_channels)
        assert fitted.dtype == np.uint8
        assert fitted.flags.c_contiguous
        assert set(np.unique(fitted)) == {77}

    def test_fit_picture_returns_the_same_pixels_when_nothing_is_to_do(self) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
        np.testing.assert_array_equal(fit_picture(picture, spec_of()), picture)

    @pytest.mark.parametrize(("height", "width"), [(256, 256), (256, 341), (500, 256)])
    def test_fit_picture_only_cuts_the_centre_when_the_crop_has_the_input_size(self, height: int, width: int) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        top, left = (height - 224) // 2, (width - 224) // 2
        fitted = fit_picture(picture, spec_of(size=(224, 224), crop=0.875))
        np.testing.assert_array_equal(fitted, picture[top : top + 224, left : left + 224])

    @pytest.mark.parametrize(("side", "tolerance"), [(100, 2), (480, 3), (720, 3), (999, 9)])
    def test_fit_picture_agrees_with_area_averaging_when_it_shrinks(self, side: int, tolerance: int) -> None:
        """A smooth picture has nothing to alias, so all good filters agree, if the geometry is right.

        Sides that are no multiple of 2^halvings are cut by up to half a pixel of the result: 9 levels in these waves.
        """
        rows, columns = np.mgrid[0:side, 0:side] / side
        waves = np.stack([np.sin(7 * rows + 3 * columns), np.cos(9 * columns), np.sin(5 * rows)], axis=2)
        picture = np.rint(127.5 + 127 * waves).astype(np.uint8)
        expected = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA)
        fitted = fit_picture(picture, spec_of(size=(64, 64)))
        assert np.abs(fitted.astype(int) - expected.astype(int)).max() <= tolerance

    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "area"])
    def test_fit_picture_does_not_alias_when_it_shrinks_a_lot(self, interpolation: Interpolation) -> None:
        checkerboard = (np.indices((512, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)[:, :, np.newaxis]
        fitted = fit_picture(checkerboard, spec_of(size=(100, 100), channels=1, interpolation=interpolation))
        assert np.abs(fitted.astype(int) - 127.5).max() <= 1

    def test_fit_picture_keeps_the_aspect_ratio_when_the_picture_is_wide(self) -> None:
        picture = np.zeros((100, 300, 1), np.uint8)
        picture[:, 100:200] = 255  # the centre square, and only it, is white
        assert fit_picture(picture, spec_of(size=(50, 50), channels=1)).min() == 255

    def test_fit_picture_weights_colours_when_the_model_wants_gray(self) -> None:
        red, green, blue = (fit_picture(_flat(colour), spec_of(channels=1))[0, 0, 0] for colour in np.eye(3) * 255)
        assert (red, green, blue) == (76, 150, 29)  # ITU-R BT.601

    def test_fit_picture_repeats_gray_when_the_model_wants_rgb(self) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (12, 10, 1), np.uint8)
        np.testing.assert_array_equal(fit_picture(picture, spec_of()), np.repeat(picture, 3, axis=2))

    @pytest.mark.parametrize(
        "picture",
        [
            np.zeros((5, 5), np.uint8),
            np.zeros((5, 5, 4), np.uint8),
            np.zeros((0, 5, 3), np.uint8),
            np.zeros((5, 5, 3), np.float32),
        ],
    )
    def test_fit_picture_refuses_what_is_no_picture(self, picture: np.ndarray) -> None:
        with pytest.raises(DataError, match="expected uint8"):
            fit_picture(picture, spec_of())


def _flat(colour: np.ndarray) -> np.ndarray:
    return np.tile(colour.astype(np.uint8), (12, 10, 1))
