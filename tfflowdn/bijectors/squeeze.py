"""Squeeze: space to depth."""

from __future__ import annotations

import tensorflow as tf

from tfflowdn.bijectors.image_bijector import ImageBijector

__all__ = ["Squeeze"]


class Squeeze(ImageBijector):
    """Trades space for channels (Dinh et al. 2017, section 3.6).

    `inverse` turns every 2x2 block of an image [batch, H, W, C] into one pixel of 4C
    channels, `forward` puts it back. H and W must be even.

    - forward: `y = depth_to_space(x)`
    - forward log-det: 0
    - inverse: `x = space_to_depth(y)`
    - inverse log-det: 0
    """

    def __init__(self, *, validate_args: bool = False, name: str = "squeeze") -> None:
        parameters = dict(locals())
        super().__init__(
            forward_min_event_ndims=3,
            is_constant_jacobian=True,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    def _forward(self, x):
        return tf.nn.depth_to_space(x, 2)

    def _inverse(self, y):
        _check_even(y.shape)
        return tf.nn.space_to_depth(y, 2)

    def _inverse_log_det_jacobian(self, y):
        return tf.zeros(tf.shape(y)[:-3], y.dtype)

    def _forward_event_shape(self, input_shape):
        h, w, c = input_shape[-3:]
        return input_shape[:-3].concatenate(
            [_times(h, 2), _times(w, 2), None if c is None else c // 4]
        )

    def _forward_event_shape_tensor(self, input_shape):
        h, w, c = tf.unstack(input_shape[-3:])
        return tf.concat([input_shape[:-3], tf.stack([h * 2, w * 2, c // 4])], 0)

    def _inverse_event_shape(self, output_shape):
        _check_even(output_shape)
        h, w, c = output_shape[-3:]
        return output_shape[:-3].concatenate([h and h // 2, w and w // 2, _times(c, 4)])

    def _inverse_event_shape_tensor(self, output_shape):
        h, w, c = tf.unstack(output_shape[-3:])
        return tf.concat([output_shape[:-3], tf.stack([h // 2, w // 2, c * 4])], 0)

    @classmethod
    def _parameter_properties(cls, dtype):
        del dtype
        return {}


def _times(dimension, factor):
    return None if dimension is None else dimension * factor


def _check_even(shape):
    height, width = shape[-3], shape[-2]
    if (height or 0) % 2 or (width or 0) % 2:
        raise ValueError(
            "Squeeze needs an even height and width. "
            f"Received: height={height}, width={width}."
        )
