"""Reads PNG and JPEG files in a graph of TensorFlow operations."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["decode", "num_pixels"]

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_PNG_HEADER_SIZE = 33  # The signature and the chunk IHDR.
_PNG_SIZE_OFFSET = 16  # Width and height, four bytes each.
_PNG_DEPTH_OFFSET = 24
_MAX_PNG_CHUNKS = 1000  # Chunks in front of the pixels that are searched for EXIF.
_EXIF_SIZE = 2**17  # EXIF is one segment of at most 64 KiB, among the first ones.
_EXIF = b"Exif\x00\x00"
# The first entry for the orientation, little- or big-endian, and its value 1 to 8.
_ORIENTATION = (
    r"^\C*?Exif\x00\x00\C*?(?:\x12\x01\x03\x00\x01\x00\x00\x00"
    r"|\x01\x12\x00\x03\x00\x00\x00\x01\x00)([\x01-\x08])\C*$"
)


def num_pixels(contents: tf.Tensor) -> tf.Tensor:
    """Returns the number of pixels in the header of a file, int64."""
    is_png, is_jpeg = _starts_with(contents, _PNG), _starts_with(contents, _JPEG)
    check = tf.debugging.Assert(
        is_png | is_jpeg,
        [
            "noisy_bytes must be PNG or JPEG files. Received: other bytes, in number",
            tf.strings.length(contents),
        ],
    )
    with tf.control_dependencies([check]):
        contents = tf.identity(contents)
    return tf.cond(
        is_png,
        lambda: tf.reduce_prod(_png_size(contents)),
        lambda: tf.reduce_prod(
            tf.io.extract_jpeg_shape(contents, output_type=tf.int64)[:2]
        ),
    )


def _png_size(contents):
    """Returns width and height; 0 for a file that ends before them."""
    head = tf.strings.substr(contents, 0, _PNG_HEADER_SIZE) + bytes(_PNG_HEADER_SIZE)
    size = tf.strings.substr(head, _PNG_SIZE_OFFSET, 8)
    return tf.cast(_big_endian(size), tf.int64)


def decode(contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns stored pixels as float32 [H, W, C], and whether they have 16 bits."""
    return tf.cond(
        _starts_with(contents, _PNG),
        lambda: _decode_png(contents),
        lambda: _decode_jpeg(contents),
    )


def _decode_png(contents):
    pixels = tf.cast(tf.io.decode_png(contents, dtype=tf.uint16), tf.float32)
    with tf.control_dependencies([pixels]):  # It reports a broken file.
        is_deep = tf.strings.substr(contents, _PNG_DEPTH_OFFSET, 1) == b"\x10"
        orientation = _orientation(_png_exif(contents))
    # decode_png multiplies 8-bit pixels by 257 = 65535 / 255.
    pixels /= tf.where(is_deep, 1.0, 257.0)
    return _oriented(pixels, orientation), is_deep


def _decode_jpeg(contents):
    pixels = tf.io.decode_jpeg(contents, dct_method="INTEGER_ACCURATE")
    pixels = tf.cast(pixels, tf.float32)
    return _oriented(pixels, _orientation(contents)), False


def _png_exif(contents):
    """Returns the EXIF data before the pixels of a valid PNG, in the form of JPEG."""
    padded = contents + bytes(8)
    end = tf.strings.length(contents)

    def header(start):
        """Returns the length and the type of the chunk at an offset."""
        length = _big_endian(tf.strings.substr(padded, start, 4))[0]
        return length, tf.strings.substr(padded, start + 4, 4)

    def is_before_exif(start):
        length, kind = header(start)
        is_last = (kind == b"eXIf") | (kind == b"IDAT")
        return ~is_last & (length >= 0) & (length < end - start - 12)

    (start,) = tf.while_loop(
        is_before_exif,
        lambda start: (start + 12 + header(start)[0],),
        (tf.constant(_PNG_HEADER_SIZE),),
        maximum_iterations=_MAX_PNG_CHUNKS,
    )
    length, kind = header(start)
    length = tf.where(kind == b"eXIf", tf.clip_by_value(length, 0, _EXIF_SIZE), 0)
    return _EXIF + tf.strings.substr(padded, start + 8, length)


def _orientation(contents):
    """Returns the EXIF orientation, 1 to 8; 1 if the data have none."""
    head = tf.strings.substr(contents, 0, _EXIF_SIZE)
    found = tf.strings.regex_replace(head, _ORIENTATION, r"\1")
    return tf.cond(
        tf.strings.length(found) == 1,
        lambda: tf.cast(tf.io.decode_raw(found, tf.uint8)[0], tf.int32),
        lambda: 1,
    )


def _oriented(pixels, orientation):
    """Applies an EXIF orientation to pixels [H, W, C], as `data` does."""

    def is_one_of(*values):
        return tf.reduce_any(orientation == tf.constant(values))

    pixels = tf.cond(
        orientation >= 5, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels
    )
    axes = tf.where(tf.stack([is_one_of(3, 4, 7, 8), is_one_of(2, 3, 6, 7)]))[:, 0]
    return tf.reverse(pixels, axes)


def _starts_with(contents, start):
    return tf.strings.substr(contents, 0, len(start)) == start


def _big_endian(contents):
    return tf.io.decode_raw(contents, tf.int32, little_endian=False)
