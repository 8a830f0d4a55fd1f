"""A denoiser as a graph of TensorFlow operations, for servers without Python."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from tfflowdn import data, inference
from tfflowdn.inference import tiling
from tfflowdn.serving import MAX_REQUEST_PIXELS, encoded_files
from tfflowdn.serving.sound_range import percentiles, sound_limits
from tfflowdn.serving.tiles import denoise_by_tiles

__all__ = ["ServedDenoiser"]


class ServedDenoiser:
    """The endpoints of a denoiser.

    Pictures of more than `max_pixels` are denoised by overlapping tiles inside the
    graph, one after the other and with the same result. In addition to its own pixels,
    a request needs the memory of one tile. Invalid input raises an
    InvalidArgumentError that states the requirement.

    `serve` takes and returns pixels in units of the pixel range of the network, which
    is [0, 1] for the range "dtype". `uint8` and `encoded` take and return stored
    pixels, as `inference.Denoiser` does. Pictures of which a sizeable part lies outside
    of the range get a sound range of their own. `network` is the network itself,
    without this choice.

    Args:
      network: Keras model that maps pictures [batch, H, W, C] to the same shape. C is
        1 or 3. Its attribute `pixel_range` ("dtype" if it is absent) gives the stored
        values that become 0 and 1; percentiles are computed for each picture.
      max_pixels: Number of pixels that the network processes at once. None means all
        pixels of a request.
      max_request_pixels: Largest number of pixels of a request. The size of a file is
        read from its header before it is decoded. None means no limit.

    Raises:
      ValueError: If the network has other shapes, the tiles are not longer than their
        margins, or `max_request_pixels` is not positive.
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        max_pixels: int | None = 2**20,
        max_request_pixels: int | None = MAX_REQUEST_PIXELS,
    ) -> None:
        if max_request_pixels is not None and max_request_pixels < 1:
            raise ValueError(
                f"max_request_pixels must be positive. Received: {max_request_pixels=}."
            )
        self._network = network
        self.channels = inference.num_channels(network)
        self.pixel_range = data.check_range(getattr(network, "pixel_range", "dtype"))
        self.max_pixels = max_pixels
        self.max_request_pixels = max_request_pixels
        denoise = self._denoise_at_once
        if max_pixels is not None:
            denoiser = inference.Denoiser(network)
            self.margin, self.multiple = denoiser.margin, denoiser.multiple
            self._check_tiles()
            denoise = self._denoise_by_tiles
        shape = (None, None, None, self.channels)

        def checked(noisy):
            return tf.debugging.check_numerics(
                denoise(noisy), "The network must return finite values"
            )

        # All endpoints share one traced function.
        self._denoise = tf.function(checked, input_signature=[tf.TensorSpec(shape)])

    @property
    def facts(self) -> dict[str, Any]:
        """Metadata for callers of the graph, as JSON types."""
        facts = {
            "channels": self.channels,
            "max_pixels": self.max_pixels,
            "max_request_pixels": self.max_request_pixels,
        }
        if self.max_pixels is None:
            return facts
        return {**facts, "receptive_radius": self.margin, "scale": self.multiple}

    @property
    def takes_files(self) -> bool:
        """Whether files can have the channels of the network: gray or RGB."""
        return self.channels in (1, 3)

    @property
    def fits_integers(self) -> bool:
        """Whether stored pixels of 16 bits can hold the ends of the pixel range."""
        if self.pixel_range == "dtype" or "%" in self.pixel_range:
            return True
        low, high = _ends(self.pixel_range)
        return low >= 0 and high <= 65535 and high - low >= 2

    def serve(self, noisy: tf.Tensor) -> dict[str, tf.Tensor]:
        """Denoises pictures in units of the network's pixel range.

        Args:
          noisy: float32 [batch, H, W, C].

        Returns:
          `denoised` of the same shape and dtype.
        """
        noisy = self._finite(noisy)
        low, high = self._limits(noisy, 1.0, "0,1")
        return {
            "denoised": self._denoise((noisy - low) / (high - low)) * (high - low) + low
        }

    def network(self, noisy: tf.Tensor) -> dict[str, tf.Tensor]:
        """Denoises pictures as `serve` does, without the choice of a sound range."""
        return {"denoised": self._denoise(self._finite(noisy))}

    def _finite(self, noisy):
        return tf.debugging.check_numerics(
            self._checked(noisy), "The pixels of noisy must be finite"
        )

    def uint8(self, noisy: tf.Tensor) -> dict[str, tf.Tensor]:
        """Denoises pictures of 8-bit pixels.

        Args:
          noisy: uint8 [batch, H, W, C].

        Returns:
          `denoised` of the same shape and dtype.
        """
        pixels = tf.cast(self._checked(noisy), tf.float32)
        low, high = self._limits(pixels, 255.0)
        denoised = self._denoise((pixels - low) / (high - low))
        return {"denoised": _to_integers(denoised * (high - low) + low, tf.uint8)}

    def encoded(self, noisy_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Denoises files, which may differ in size, format and depth.

        A network for gray pictures denoises each color channel separately. A network
        for color pictures denoises gray as three equal channels. Alpha is copied. The
        EXIF orientation is applied.

        Args:
          noisy_bytes: string [batch], PNG files of up to 16 bits or JPEG files.

        Returns:
          `denoised_bytes`, string [batch]: PNG files of 16 bits for files of 16 bits,
          and of 8 bits for all others.
        """
        with tf.control_dependencies(self._checks_of_files(noisy_bytes)):
            noisy_bytes = tf.identity(noisy_bytes)
        denoised = tf.map_fn(
            self._denoise_file,
            noisy_bytes,
            fn_output_signature=tf.TensorSpec([], tf.string),
            parallel_iterations=1,
        )
        return {"denoised_bytes": denoised}

    def _checks_of_files(self, noisy_bytes):
        """Returns assertions that need the headers of the files only."""
        check = tf.debugging.Assert(
            tf.size(noisy_bytes) > 0,
            ["noisy_bytes must hold a file. Received: an empty batch."],
        )
        num_pixels = tf.map_fn(
            encoded_files.num_pixels,
            noisy_bytes,
            fn_output_signature=tf.TensorSpec([], tf.int64),
            parallel_iterations=1,
        )
        total = tf.reduce_sum(num_pixels)
        return [check, self._size_check(total, "noisy_bytes", total)]

    def _size_check(self, num_pixels, name, received):
        if self.max_request_pixels is None:
            return tf.no_op()
        return tf.debugging.Assert(
            tf.cast(num_pixels, tf.int64) <= self.max_request_pixels,
            [
                f"{name} must have at most {self.max_request_pixels} pixels in a "
                "request. Received:",
                received,
            ],
            summarize=4,
        )

    def _limits(self, pixels, largest, pixel_range=None):
        """Returns the stored values that become 0 and 1, each [batch, 1, 1, 1].

        Args:
          pixels: float32 [batch, H, W, C], without alpha.
          largest: Largest value of the stored integer type.
          pixel_range: The range, by default the range of the network.
        """
        pixel_range = pixel_range or self.pixel_range
        if pixel_range == "dtype":
            return tf.zeros([1, 1, 1, 1]), tf.reshape(largest, [1, 1, 1, 1])
        ends = _ends(pixel_range)

        def find(picture):
            if "%" in pixel_range:
                return percentiles(picture, ends)
            return sound_limits(picture, *map(tf.constant, ends))

        limits = tf.map_fn(find, pixels, fn_output_signature=tf.TensorSpec([2]))
        return tf.split(limits[:, tf.newaxis, tf.newaxis], 2, axis=-1)

    def _check_tiles(self):
        """Checks that large pictures can be divided into tiles."""
        size = 2 * math.isqrt(max(self.max_pixels, 0)) + 1
        tiling.tiles(
            size,
            size,
            margin=self.margin,
            multiple=self.multiple,
            max_pixels=self.max_pixels,
        )

    def _checked(self, noisy):
        shape = tf.shape(noisy, tf.int64)
        check = tf.debugging.Assert(
            tf.size(noisy) > 0,
            [
                "noisy must be [batch, height, width, channels], none of them 0. "
                "Received: noisy.shape=",
                shape,
            ],
            summarize=4,
        )
        size = self._size_check(tf.reduce_prod(shape[:3]), "noisy", shape)
        with tf.control_dependencies([check, size]):
            # A server does not compare the shape of a request with the signature's.
            return tf.ensure_shape(noisy, (None, None, None, self.channels))

    def _denoise_file(self, contents):
        pixels, is_deep = encoded_files.decode(contents)
        num_colors = tf.shape(pixels)[-1]
        num_colors -= 1 - num_colors % 2  # The last of 2 or 4 channels is alpha.
        color, alpha = pixels[..., :num_colors], pixels[..., num_colors:]
        largest = tf.where(is_deep, 65535.0, 255.0)
        low, high = self._limits(color[tf.newaxis], largest)
        denoised = self._denoise_color((color - low[0]) / (high - low)[0])
        denoised = denoised * (high - low)[0] + low[0]
        result = tf.concat([denoised, alpha], -1)
        return tf.cond(
            is_deep,
            lambda: tf.io.encode_png(_to_integers(result, tf.uint16)),
            lambda: tf.io.encode_png(_to_integers(result, tf.uint8)),
        )

    def _denoise_color(self, color):
        """Denoises [H, W, 1 or 3] with a network of 1 or 3 channels."""
        if self.channels == 1:
            planes = tf.transpose(color, (2, 0, 1))[..., tf.newaxis]
            return tf.transpose(self._denoise(planes)[..., 0], (1, 2, 0))
        shape = tf.concat([tf.shape(color)[:2], [self.channels]], 0)
        denoised = self._denoise(tf.broadcast_to(color, shape)[tf.newaxis])[0]
        return tf.cond(
            tf.shape(color)[-1] == 1,
            lambda: tf.reduce_mean(denoised, -1, keepdims=True),
            lambda: denoised,
        )

    def _denoise_at_once(self, noisy):
        return self._network(noisy, training=False)

    def _denoise_by_tiles(self, noisy):
        return denoise_by_tiles(
            self._denoise_at_once,
            noisy,
            margin=self.margin,
            multiple=self.multiple,
            max_pixels=self.max_pixels,
        )


def _ends(pixel_range):
    """Returns the two numbers of a pixel range that is not "dtype"."""
    return [float(end.removesuffix("%")) for end in pixel_range.split(",")]


def _to_integers(pixels, dtype):
    return tf.cast(tf.round(tf.clip_by_value(pixels, 0, dtype.max)), dtype)
