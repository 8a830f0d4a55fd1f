"""A denoiser as a graph of TensorFlow operations, for servers without Python."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from tfflowdn import inference
from tfflowdn.inference import tiling

__all__ = ["ServedDenoiser"]

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_DEPTH_OF_PNG = 24  # Place of the byte that tells the bits of a channel.
_EXIF_SIZE = 2**17  # EXIF has one segment of at most 64 KiB, one of the first.
# The first entry for the orientation, little- or big-endian, and its value 1 to 8.
_ORIENTATION = (
    r"^\C*?Exif\x00\x00\C*?(?:\x12\x01\x03\x00\x01\x00\x00\x00"
    r"|\x01\x12\x00\x03\x00\x00\x00\x01\x00)([\x01-\x08])\C*$"
)


class ServedDenoiser:
    """The endpoints of a denoiser.

    Pictures of more than `max_pixels` are denoised by overlapping tiles inside of the
    graph, one after the other and with the same result, so that a request needs no
    more memory than a tile does, beside its own pixels. Bad input is an
    InvalidArgumentError that says what must hold.

    Args:
      network: Keras model of pictures [batch, H, W, C], C 1 or 3, to the same shape.
      max_pixels: Pixels to give to the network at once; None for all of a request's.

    Raises:
      ValueError: If the network is none of these, or its tiles would be no longer
        than their margins.
    """

    def __init__(self, network: keras.Model, *, max_pixels: int | None = 2**20):
        self._network = network
        self.channels = inference.num_channels(network)
        self.max_pixels = max_pixels
        denoise = self._denoise_at_once
        if max_pixels is not None:
            denoiser = inference.Denoiser(network)
            self.margin, self.multiple = denoiser.margin, denoiser.multiple
            self._check_tiles()
            denoise = self._denoise_by_tiles
        shape = (None, None, None, self.channels)
        # Traced once for all of the endpoints.
        self._denoise = tf.function(denoise, input_signature=[tf.TensorSpec(shape)])

    @property
    def facts(self) -> dict:
        """What a caller of the graph may want to know, as JSON types."""
        facts = {"channels": self.channels, "max_pixels": self.max_pixels}
        if self.max_pixels is None:
            return facts
        return {**facts, "receptive_radius": self.margin, "scale": self.multiple}

    def serve(self, noisy: tf.Tensor) -> dict[str, tf.Tensor]:
        """Denoises pictures in [0, 1] units.

        Args:
          noisy: float32 [batch, H, W, C].

        Returns:
          `denoised`, of the same shape and dtype.
        """
        noisy = tf.debugging.check_numerics(
            self._checked(noisy), "The pixels of noisy must be finite"
        )
        return {"denoised": self._denoise(noisy)}

    def uint8(self, noisy: tf.Tensor) -> dict[str, tf.Tensor]:
        """Denoises pictures of 8-bit pixels.

        Args:
          noisy: uint8 [batch, H, W, C].

        Returns:
          `denoised`, of the same shape and dtype.
        """
        noisy = _to_float(self._checked(noisy))
        return {"denoised": _from_float(self._denoise(noisy), tf.uint8)}

    def encoded(self, noisy_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Denoises files, which may differ in size, kind and depth.

        Colour goes through a network for gray by the channel, gray through one for
        colour as three equal channels; alpha is carried through. A JPEG's EXIF
        orientation is applied.

        Args:
          noisy_bytes: string [batch], PNG of up to 16 bits or JPEG.

        Returns:
          `denoised_bytes`, string [batch]: PNG of 16 bits where `noisy_bytes` has
          them, of 8 bits elsewhere.
        """
        check = tf.debugging.Assert(
            tf.size(noisy_bytes) > 0,
            ["noisy_bytes must hold a file. Received: a batch of none."],
        )
        with tf.control_dependencies([check]):
            noisy_bytes = tf.identity(noisy_bytes)
        denoised = tf.map_fn(
            self._denoise_file,
            noisy_bytes,
            fn_output_signature=tf.TensorSpec([], tf.string),
            parallel_iterations=1,
        )
        return {"denoised_bytes": denoised}

    def _check_tiles(self):
        """Raises ValueError where the tiles of a large picture cannot be made."""
        size = 2 * math.isqrt(max(self.max_pixels, 0)) + 1
        tiling.tiles(
            size,
            size,
            margin=self.margin,
            multiple=self.multiple,
            max_pixels=self.max_pixels,
        )

    def _checked(self, noisy):
        check = tf.debugging.Assert(
            tf.size(noisy) > 0,
            [
                "noisy must be [batch, height, width, channels], none of them 0. "
                "Received: noisy.shape=",
                tf.shape(noisy),
            ],
            summarize=4,
        )
        with tf.control_dependencies([check]):
            # A server does not compare the shape of a request with the signature's.
            return tf.ensure_shape(noisy, (None, None, None, self.channels))

    def _denoise_file(self, contents):
        pixels, is_deep = _decode(contents)
        num_colours = tf.shape(pixels)[-1]
        num_colours -= 1 - num_colours % 2  # The last of 2 or 4 is alpha.
        colour, alpha = pixels[..., :num_colours], pixels[..., num_colours:]
        result = tf.concat([self._denoise_colour(colour), alpha], -1)
        return tf.cond(
            is_deep,
            lambda: tf.io.encode_png(_from_float(result, tf.uint16)),
            lambda: tf.io.encode_png(_from_float(result, tf.uint8)),
        )

    def _denoise_colour(self, colour):
        """Denoises [H, W, 1 or 3] by a network of either."""
        if self.channels == 1:
            planes = tf.transpose(colour, (2, 0, 1))[..., tf.newaxis]
            return tf.transpose(self._denoise(planes)[..., 0], (1, 2, 0))
        shape = tf.concat([tf.shape(colour)[:2], [self.channels]], 0)
        denoised = self._denoise(tf.broadcast_to(colour, shape)[tf.newaxis])[0]
        return tf.cond(
            tf.shape(colour)[-1] == 1,
            lambda: tf.reduce_mean(denoised, -1, keepdims=True),
            lambda: denoised,
        )

    def _denoise_at_once(self, noisy):
        return self._network(noisy, training=False)

    def _denoise_by_tiles(self, noisy):
        """Denoises [batch, H, W, C]: several pictures, one or a part of one at once."""
        batch, height, width = tf.unstack(tf.shape(noisy, tf.int64)[:3])
        at_once = tf.clip_by_value(self.max_pixels // (height * width), 1, batch)
        rows, columns = self.spans(height, width)

        def denoise_pictures(index):
            first = index * at_once
            pictures = noisy[first : first + at_once]

            def denoise_row(row):
                return _concat_map(
                    lambda column: self._denoise_tile(pictures, rows[row], column),
                    columns,
                    axis=2,
                )

            return _concat_map(denoise_row, tf.range(tf.shape(rows)[0]), axis=1)

        chunks = tf.range((batch + at_once - 1) // at_once)
        denoised = _concat_map(denoise_pictures, chunks, axis=0)
        return tf.ensure_shape(denoised, noisy.shape)

    def _denoise_tile(self, pictures, row, column):
        tile = pictures[:, row[0] : row[1], column[0] : column[1]]
        return self._denoise_at_once(tile)[
            :,
            row[2] - row[0] : row[3] - row[0],
            column[2] - column[0] : column[3] - column[0],
        ]

    def spans(self, height: tf.Tensor, width: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the tiles along each axis as `tiling.tiles` makes them.

        Args:
          height: Scalar, int64.
          width: Scalar, int64.

        Returns:
          `start, stop, begin, end` of `tiling.Span`, int64 [tiles, 4], for either axis.
        """
        side = math.isqrt(self.max_pixels)
        fits = height * width <= self.max_pixels

        def spans(size, other):
            most = tf.where(other < side, self.max_pixels // other, side)
            most -= most % self.multiple
            return tf.cond(
                fits | (size < side) | (size <= most),
                lambda: tf.stack([[0, size, 0, size]]),
                lambda: self._spans(size, most),
            )

        return spans(height, width), spans(width, height)

    def _spans(self, size, length):
        """Returns `tiling.spans` of an axis that takes several tiles."""
        margin = self.multiple * math.ceil(self.margin / self.multiple)
        inner = size - 2 * margin
        count = _ceil_divide(inner, length - 2 * margin)
        step = self.multiple * _ceil_divide(inner, count * self.multiple)
        length = step + 2 * margin
        last = size - length
        last -= last % self.multiple
        starts = tf.concat([tf.range(0, last, step), [last]], 0)
        stops = tf.concat([starts[:-1] + length, [size]], 0)
        begins = tf.concat([[0], starts[1:] + margin], 0)
        ends = tf.concat([begins[1:], [size]], 0)
        return tf.stack([starts, stops, begins, ends], 1)


def _concat_map(function: Callable, elements: tf.Tensor, axis: int) -> tf.Tensor:
    """Concatenates function(element), [batch, H, W, C], in turn and along an axis."""
    swap = [0, 1, 2, 3]
    swap[0], swap[axis] = axis, 0  # A TensorArray concatenates along its first axis.
    count = tf.shape(elements)[0]
    results = tf.TensorArray(tf.float32, count, infer_shape=False)
    _, results = tf.while_loop(
        lambda index, _: index < count,
        lambda index, results: (
            index + 1,
            results.write(index, tf.transpose(function(elements[index]), swap)),
        ),
        (0, results),
        parallel_iterations=1,  # One tile's memory at a time.
    )
    return tf.transpose(results.concat(), swap)


def _decode(contents):
    """Returns pixels [H, W, C] in [0, 1] units, and whether they have 16 bits."""
    is_png = tf.strings.substr(contents, 0, len(_PNG)) == _PNG
    is_jpeg = tf.strings.substr(contents, 0, len(_JPEG)) == _JPEG
    check = tf.debugging.Assert(
        is_png | is_jpeg,
        [
            "noisy_bytes must be PNG or JPEG files. Received: bytes of neither, as "
            "many as",
            tf.strings.length(contents),
        ],
    )
    with tf.control_dependencies([check]):
        contents = tf.identity(contents)
    return tf.cond(
        is_png, lambda: _decode_png(contents), lambda: _decode_jpeg(contents)
    )


def _decode_png(contents):
    # 8 bits become 16 by a factor of 257 = 65535 / 255.
    pixels = tf.io.decode_png(contents, dtype=tf.uint16)
    with tf.control_dependencies([pixels]):  # Whose error is that of a broken file.
        is_deep = tf.strings.substr(contents, _DEPTH_OF_PNG, 1) == b"\x10"
    return _to_float(pixels), is_deep


def _decode_jpeg(contents):
    pixels = tf.io.decode_jpeg(contents, dct_method="INTEGER_ACCURATE")
    return _oriented(_to_float(pixels), _orientation(contents)), False


def _orientation(contents):
    """Returns the orientation that EXIF gives, 1 to 8 as there; 1 if it gives none."""
    head = tf.strings.substr(contents, 0, _EXIF_SIZE)
    found = tf.strings.regex_replace(head, _ORIENTATION, r"\1")
    return tf.cond(
        tf.strings.length(found) == 1,
        lambda: tf.cast(tf.io.decode_raw(found, tf.uint8)[0], tf.int32),
        lambda: 1,
    )


def _oriented(pixels, orientation):
    """Returns the pixels as they are to be seen, see `data.orientation.orient`."""

    def is_one_of(*values):
        return tf.reduce_any(orientation == tf.constant(values))

    pixels = tf.cond(
        orientation >= 5, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels
    )
    axes = tf.where(tf.stack([is_one_of(3, 4, 7, 8), is_one_of(2, 3, 6, 7)]))[:, 0]
    return tf.reverse(pixels, axes)


def _to_float(pixels):
    return tf.cast(pixels, tf.float32) / pixels.dtype.max


def _from_float(pixels, dtype):
    return tf.cast(tf.round(tf.clip_by_value(pixels, 0, 1) * dtype.max), dtype)


def _ceil_divide(number, divisor):
    return -(-number // divisor)
