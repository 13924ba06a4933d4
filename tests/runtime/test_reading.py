from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgekit.core.errors import DataError
from edgekit.runtime.reading import MAX_FILE_BYTES, decode_picture, read_picture

_COLOUR = (200, 100, 50)


def picture_of(mode: str = "RGB", size: tuple[int, int] = (30, 20)) -> Image.Image:
    return Image.new("RGB", size, _COLOUR).convert(mode)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def noise(mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def huge_png(width: int, height: int) -> bytes:
    """A PNG header that declares a size, with an empty picture behind it."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def huge_jpeg(width: int, height: int) -> bytes:
    """A real JPEG whose frame header is changed to declare another size."""
    content = bytearray(encoded(picture_of(), "JPEG"))
    frame = content.index(b"\xff\xc0")
    struct.pack_into(">HH", content, frame + 5, height, width)
    return bytes(content)


class TestDecoding:
    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
    def test_decode_picture_gives_rgb_for_every_format(self, format: str) -> None:
        picture = decode_picture(encoded(picture_of(), format), name="x")
        assert picture.shape == (20, 30, 3)
        assert picture.dtype == np.uint8
        np.testing.assert_allclose(picture[10, 15], _COLOUR, atol=4)

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "TIFF", "PPM"])
    def test_decode_picture_keeps_one_channel_when_the_file_is_gray(self, format: str) -> None:
        assert decode_picture(encoded(picture_of("L"), format), name="x").shape == (20, 30, 1)

    @pytest.mark.parametrize(("mode", "format"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("P", "PNG"), ("P", "GIF")])
    def test_decode_picture_converts_other_colour_models_to_rgb(self, mode: str, format: str) -> None:
        picture = decode_picture(encoded(picture_of(mode), format), name="x")
        np.testing.assert_allclose(picture[10, 15], _COLOUR, atol=6)

    def test_decode_picture_reads_black_and_white(self) -> None:
        assert set(np.unique(decode_picture(encoded(picture_of("1"), "PNG"), name="x"))) <= {0, 255}

    @pytest.mark.parametrize("format", [".png", ".tiff"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_decode_picture_scales_16_bits_to_8(self, format: str, channels: int) -> None:
        deep = np.full((4, 5, channels), 40000, np.uint16)
        deep[0, 0], deep[0, 1] = 0, 65535
        picture = decode_picture(cv2.imencode(format, deep)[1].tobytes(), name="x")
        assert picture.shape == (4, 5, channels)
        assert picture.dtype == np.uint8
        assert [int(value) for value in picture[0, :3, 0]] == [0, 255, round(40000 / 257)]

    @pytest.mark.parametrize("format", ["PNG", "WEBP"])
    def test_decode_picture_lays_transparency_over_white(self, format: str) -> None:
        image = picture_of("RGBA")
        image.putalpha(64)
        picture = decode_picture(encoded(image, format, lossless=True), name="x")
        expected = [round(value * 64 / 255 + 255 * 191 / 255) for value in _COLOUR]
        np.testing.assert_allclose(picture[10, 15], expected, atol=1)

    def test_decode_picture_lays_gray_with_alpha_over_white(self) -> None:
        image = Image.new("LA", (30, 20), (0, 0))
        assert decode_picture(encoded(image, "PNG"), name="x").min() == 255

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
    @pytest.mark.parametrize(("orientation", "transposed"), [(1, False), (3, False), (6, True), (8, True)])
    def test_decode_picture_turns_it_upright_when_exif_says_so(
        self, format: str, orientation: int, transposed: bool
    ) -> None:
        image = Image.new("RGB", (64, 32), (0, 0, 0))
        image.paste((255, 255, 255), (0, 0, 16, 16))  # a white corner, top left as stored
        exif = Image.Exif()
        exif[0x112] = orientation
        picture = decode_picture(encoded(image, format, exif=exif), name="x")
        assert picture.shape[:2] == ((64, 32) if transposed else (32, 64))
        corners = {1: (4, 4), 3: (-5, -5), 6: (4, -5), 8: (-5, 4)}
        assert picture[corners[orientation]].min() > 240
        assert sum(int(picture[at].min() > 240) for at in corners.values()) == 1

    def test_decode_picture_is_contiguous_and_writable(self) -> None:
        for image in (picture_of(), picture_of("L")):
            picture = decode_picture(encoded(image, "PNG"), name="x")
            assert picture.flags.c_contiguous
            assert picture.flags.writeable


class TestHostileFiles:
    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
    @pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
    def test_decode_picture_refuses_a_truncated_file(self, format: str, share: float) -> None:
        content = encoded(noise(), format)
        with pytest.raises(DataError, match="unreadable picture cut"):
            decode_picture(content[: int(len(content) * share)], name="cut")

    @pytest.mark.parametrize("progressive", [False, True])
    def test_decode_picture_refuses_a_jpeg_without_its_end_marker(self, progressive: bool) -> None:
        """Decoders fill the rest with gray and call it a success."""
        content = encoded(noise(), "JPEG", progressive=progressive)
        with pytest.raises(DataError, match="end marker"):
            decode_picture(content[:-2], name="x")

    def test_decode_picture_takes_a_jpeg_with_bytes_after_its_end(self) -> None:
        assert decode_picture(encoded(noise(), "JPEG") + b"\0" * 100, name="x").shape == (60, 80, 3)

    @pytest.mark.parametrize("content", [huge_png(60000, 60000), huge_jpeg(65500, 65500), huge_png(2**31 - 1, 1)])
    def test_decode_picture_refuses_a_huge_declared_size_before_it_decodes(
        self, content: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
        with pytest.raises(DataError, match="at most 100000000 are decoded"):
            decode_picture(content, name="bomb")

    @pytest.mark.parametrize("content", [huge_png(0, 5), huge_jpeg(5, 0)])
    def test_decode_picture_refuses_a_declared_size_of_zero(self, content: bytes) -> None:
        with pytest.raises(DataError, match="declares"):
            decode_picture(content, name="x")

    @pytest.mark.parametrize("content", [b"hello world", b"\0" * 64, b"GIF", b"%PDF-1.7", b"<svg></svg>"])
    def test_decode_picture_refuses_what_is_no_picture(self, content: bytes) -> None:
        with pytest.raises(DataError, match="no JPEG, PNG"):
            decode_picture(content, name="x")

    @pytest.mark.parametrize("size", [(1, 1), (2, 2), (300, 2), (2, 300)])
    def test_decode_picture_refuses_a_size_that_shows_nothing(self, size: tuple[int, int]) -> None:
        with pytest.raises(DataError, match=f"x: {size[0]}x{size[1]} pixels, a picture has 3x3 or more"):
            decode_picture(encoded(Image.new("RGB", size), "PNG"), name="x")
        assert decode_picture(encoded(Image.new("RGB", (3, 4)), "PNG"), name="x").shape == (4, 3, 3)

    def test_decode_picture_refuses_float_samples(self) -> None:
        content = cv2.imencode(".tiff", np.full((4, 5, 3), 0.5, np.float32))[1].tobytes()
        with pytest.raises(DataError, match="float32"):
            decode_picture(content, name="x")

    @given(
        format=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"]),
        changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=8),
    )
    def test_decode_picture_answers_or_raises_data_error_when_bytes_are_changed(
        self, format: str, changes: list[tuple[int, int]]
    ) -> None:
        content = bytearray(encoded(picture_of(), format))
        for position, value in changes:
            content[position % min(len(content), 256)] = value
        try:
            picture = decode_picture(bytes(content), name="x")
        except DataError:
            return
        assert picture.ndim == 3
        assert picture.dtype == np.uint8

    @given(content=st.binary(max_size=200))
    def test_decode_picture_raises_data_error_when_bytes_are_random(self, content: bytes) -> None:
        with pytest.raises(DataError):
            decode_picture(b"\xff\xd8\xff" + content, name="x")


class TestFiles:
    def test_read_picture_reads_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(encoded(picture_of(), "PNG"))
        assert read_picture(path)[0, 0].tolist() == list(_COLOUR)

    def test_read_picture_names_the_file_when_it_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"absent\.jpg"):
            read_picture(tmp_path / "absent.jpg")

    def test_read_picture_names_the_file_when_it_is_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no picture at"):
            read_picture(tmp_path)

    def test_read_picture_names_the_file_when_it_is_empty(self, tmp_path: Path) -> None:
        (tmp_path / "empty.jpg").touch()
        with pytest.raises(DataError, match=r"empty\.jpg: empty, 0 bytes"):
            read_picture(tmp_path / "empty.jpg")

    def test_read_picture_refuses_a_huge_file_without_reading_it(self, tmp_path: Path) -> None:
        path = tmp_path / "film.jpg"
        with path.open("wb") as stream:
            stream.truncate(MAX_FILE_BYTES + 1)
        with pytest.raises(DataError, match="is no picture"):
            read_picture(path)

    def test_read_picture_agrees_with_pillow_on_real_photographs(self, shared_data: Path) -> None:
        for path in sorted((shared_data / "imagenet-sample").glob("*.jpg"))[:8]:
            expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
            assert np.abs(read_picture(path).astype(int) - expected).mean() < 1.0
