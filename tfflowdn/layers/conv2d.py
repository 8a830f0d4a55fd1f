"""Convolution to or from few channels, in the ways that are fast on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfflowdn.channels import split_channels
from tfflowdn.layers.bias_add import bias_add

__all__ = ["Conv2D", "conv2d"]

# Convolutions compute 16 output channels at once, which is wasteful for few channels.
FEW_CHANNELS = 4  # Output channels.
FEW_IMAGE_CHANNELS = 8  # Input channels, for the gradient of the images.


@keras.saving.register_keras_serializable("tfflowdn")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` by way of `conv2d`.

    The stride is 1 and the padding is "same". The weights, their names in files and the
    results are the same as in Keras' layer.

    Args:
      *args: As for Conv2D.
      patch_gradients: As for `conv2d`.
      **kwargs: As for Conv2D.
    """

    def __init__(self, *args: Any, patch_gradients: bool = False, **kwargs: Any):
        defaults = {"data_format": "channels_last"}
        super().__init__(*args, padding="same", **{**defaults, **kwargs})
        self.patch_gradients = patch_gradients

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the convolution, bias and activation applied."""
        kernel = tf.convert_to_tensor(self.kernel)
        return conv2d(inputs, kernel, self.patch_gradients, self._biased_and_activated)

    def _biased_and_activated(self, outputs):
        if self.use_bias:
            outputs = bias_add(outputs, tf.convert_to_tensor(self.bias))
        return self.activation(outputs)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = {**super().get_config(), "patch_gradients": self.patch_gradients}
        del config["padding"]
        return config


def conv2d(
    images: tf.Tensor,
    kernel: tf.Tensor,
    patch_gradients: bool = False,
    finish: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
) -> tf.Tensor:
    """Returns `finish(tf.nn.conv2d(images, kernel, 1, "SAME"))`, computed faster.

    When there are at most `FEW_CHANNELS` output channels, each kernel row is convolved
    separately and the shifted results are summed. When there are at most
    `FEW_IMAGE_CHANNELS` input channels, the gradient of the images is a matrix product
    for each kernel offset, and the shifted results are summed. On a CPU, both take a
    half to two thirds of the time of TensorFlow's convolution (measured for 64 to 4
    channels; 2, 4 and 8 to 64; 6 to 128).

    Args:
      images: [batch, H, W, C], of any H and W.
      kernel: [h, w, C, out], in the dtype of the images.
      patch_gradients: Whether gradients are matrix products with patches of the images
        or of the output, depending on which has fewer channels.
        Images (more than `FEW_CHANNELS`): with their h x w patches Q [batch H W, h w
        C], the result is `Q kernel` and the gradient of the kernel is `Q^T gradient`.
        The gradient of the images does not change. Q is kept for the gradient.
        Output: with the patches P [batch H W, h w out] of its gradient at mirrored
        offsets, the gradient of the kernel is `images^T P` and the gradient of the
        images is `P kernel^T`.
        On a CPU, this is faster when both gradients are needed (measured for 6 to 48
        channels next to 128).
      finish: Bias and activation: a map of each pixel, [..., out] to the same shape.
        It is fused with the product.

    Returns:
      [batch, H, W, out]. The gradients can be differentiated again.
    """
    channels, out_channels = kernel.shape[2:]
    if patch_gradients and FEW_CHANNELS < channels < out_channels:
        rows = finish(_product_with_patches(images, kernel))
        return _as_images(rows, images)
    by_patches = patch_gradients and channels >= out_channels
    return finish(_convolve(images, kernel, by_patches))


def _convolve(images, kernel, by_patches):
    @tf.custom_gradient
    def convolve(images, kernel):
        def gradients(gradient):
            of_both = _gradients_by_patches if by_patches else _gradients
            return of_both(images, kernel, gradient)

        if kernel.shape[3] <= FEW_CHANNELS < kernel.shape[2]:
            return _convolve_by_rows(images, kernel), gradients
        return tf.nn.conv2d(images, kernel, 1, "SAME"), gradients

    return convolve(images, kernel)


def _gradients(images, kernel, gradient):
    of_kernel = tf.raw_ops.Conv2DBackpropFilter(
        input=images,
        filter_sizes=kernel.shape,
        out_backprop=gradient,
        strides=[1] * 4,
        padding="SAME",
    )
    return _image_gradient(images, kernel, gradient), of_kernel


def _image_gradient(images, kernel, gradient):
    if kernel.shape[2] <= FEW_IMAGE_CHANNELS < kernel.shape[3]:
        return _image_gradient_by_product(kernel, gradient)
    return tf.nn.conv2d_transpose(gradient, kernel, tf.shape(images), 1, "SAME")


def _gradients_by_patches(images, kernel, gradient):
    height, width, channels, out_channels = kernel.shape
    patches = _patches(gradient, kernel, mirrored=True)
    rows = tf.reshape(images, [-1, channels])
    of_kernel = tf.matmul(rows, patches, transpose_a=True)
    of_kernel = tf.reshape(of_kernel, [channels, height, width, out_channels])
    flat = tf.reshape(tf.transpose(kernel, [0, 1, 3, 2]), [-1, channels])
    of_images = tf.reshape(tf.matmul(patches, flat), tf.shape(images))
    return of_images, tf.transpose(of_kernel, [1, 2, 0, 3])


@tf.custom_gradient
def _product_with_patches(images, kernel):
    """Returns the convolution as rows of pixels [batch H W, out]."""
    patches = _patches(images, kernel)
    out_channels = kernel.shape[3]

    def gradients(gradient):
        of_kernel = tf.matmul(patches, gradient, transpose_a=True)
        gradient = _as_images(gradient, images)
        of_images = _image_gradient(images, kernel, gradient)
        return of_images, tf.reshape(of_kernel, kernel.shape)

    return tf.matmul(patches, tf.reshape(kernel, [-1, out_channels])), gradients


def _as_images(rows, images):
    """Returns rows of pixels as images [batch, H, W, C] like `images`."""
    return tf.reshape(rows, [*tf.unstack(tf.shape(images)[:3]), rows.shape[1]])


def _image_gradient_by_product(kernel, gradient):
    """Returns the gradient of the images: a product for each kernel offset, summed."""
    height, width, channels, out_channels = kernel.shape
    flat = tf.reshape(kernel, [-1, out_channels])
    given = tf.matmul(tf.reshape(gradient, [-1, out_channels]), flat, transpose_b=True)
    shape = tf.concat([tf.shape(gradient)[:3], [height * width * channels]], 0)
    by_row = split_channels(tf.reshape(given, shape), height)
    by_column = split_channels(_sum_shifted(by_row, axis=1), width)
    return _sum_shifted(by_column, axis=2)


def _sum_shifted(parts, axis):
    """Returns the sum of images; image i is moved by i - (n - 1) // 2 pixels."""
    first = -((len(parts) - 1) // 2)
    return tf.add_n([_shift(part, first + i, axis) for i, part in enumerate(parts)])


def _shift(images, by, axis):
    """Returns images moved along an axis; the new pixels are zeros."""
    if by == 0:
        return images
    padding, begin = [[0, 0]] * 4, [0] * 4
    padding[axis], begin[axis] = [max(by, 0), max(-by, 0)], max(-by, 0)
    return tf.slice(tf.pad(images, padding), begin, tf.shape(images))


def _convolve_by_rows(images, kernel):
    """Returns the convolution, as the shifted sum of convolutions with kernel rows."""
    height, width, channels, out_channels = kernel.shape
    rows = tf.transpose(kernel, [1, 2, 0, 3])
    rows = tf.reshape(rows, [1, width, channels, height * out_channels])
    padding = [((size - 1) // 2, size // 2) for size in kernel.shape[:2]]
    by_row = tf.nn.conv2d(images, rows, 1, [(0, 0), *padding, (0, 0)])
    shifted = [
        part[:, i : i + 1 - height or None]
        for i, part in enumerate(split_channels(by_row, height))
    ]
    return tf.add_n(shifted)


def _patches(values, kernel, mirrored=False):
    """Returns for each pixel its h x w patch, [batch H W, h w C].

    With `mirrored`, the offsets have the opposite sign.
    """
    height, width = kernel.shape[:2]
    batch, *size = tf.unstack(tf.shape(values)[:3])
    channels = values.shape[-1]
    rows = tf.reshape(values, [batch, size[0] * size[1], channels])
    rows = tf.pad(rows, [[0, 0], [0, 1], [0, 0]])  # The last one is outside.
    # This takes half the time of concatenating shifted images.
    patches = tf.gather(rows, _neighbors(kernel, size, mirrored), axis=1)
    return tf.reshape(patches, [-1, height * width * channels])


def _neighbors(kernel, size, mirrored):
    """Returns the pixels at the kernel's offsets from each pixel, [H, W, h, w].

    Pixels are counted row by row; H W stands for any pixel outside of the image. With
    `mirrored`, the offsets have the opposite sign.
    """
    rows, columns = (
        tf.range(count)[:, tf.newaxis] + _offsets(length, mirrored)
        for count, length in zip(size, kernel.shape[:2], strict=True)
    )
    rows, columns = rows[:, tf.newaxis, :, tf.newaxis], columns[:, tf.newaxis]
    height, width = size
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return tf.where(inside, rows * width + columns, height * width)


def _offsets(length, mirrored):
    """Returns the offsets of the pixels of a kernel with padding="SAME"."""
    offsets = tf.range(length) - (length - 1) // 2
    return -offsets if mirrored else offsets
