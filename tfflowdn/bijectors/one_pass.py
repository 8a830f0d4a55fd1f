"""Base of the bijectors whose map and log-det come from one computation."""

from __future__ import annotations

import abc

import tensorflow as tf

from tfflowdn.bijectors.image_bijector import ImageBijector

__all__ = ["OnePassBijector", "num_pixels"]


class OnePassBijector(ImageBijector, abc.ABC):
    """Image bijector that computes a value and its log-det together, once.

    `tfd.TransformedDistribution.log_prob` asks for `inverse(y)` and then for
    `inverse_log_det_jacobian(y)`. A coupling that computes the two separately evaluates
    its conditioner twice. Here `inverse` stores the log-det on its input tensor, and
    TFP passes the same tensor to the log-det hook that follows. The log-det lives as
    long as that tensor, so threads and replicas cannot mix up their log-dets.

    Subclasses write `_forward_and_ildj` and `_inverse_and_ildj`. The sign convention
    is the same everywhere: both return the log-det of the *inverse* map, `x = g^-1(y)`,
    log |det dx/dy|, of shape [batch], or [] if it is the same for every image.
    """

    def __init__(
        self, *, parameters: dict, name: str, validate_args: bool = False
    ) -> None:
        super().__init__(
            forward_min_event_ndims=3,
            validate_args=validate_args,
            parameters=parameters,
            name=name,
        )

    @abc.abstractmethod
    def _forward_and_ildj(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `y` [batch, H, W, C] and log |det dx/dy| [...]."""

    @abc.abstractmethod
    def _inverse_and_ildj(self, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `x` [batch, H, W, C] and log |det dx/dy| [...]."""

    def __eq__(self, other):
        return self is other

    def __hash__(self):
        # TFP hashes all parameters repeatedly, which would take seconds of tracing.
        return id(self)

    def _forward(self, x):
        y, ildj = self._forward_and_ildj(x)
        self._keep(y, ildj)
        return y

    def _inverse(self, y):
        x, ildj = self._inverse_and_ildj(y)
        self._keep(y, ildj)
        return x

    def _inverse_log_det_jacobian(self, y):
        owner, ildj = getattr(y, "_tfflowdn_ildj", (None, None))
        return ildj if owner is self else self._inverse_and_ildj(y)[1]

    def _keep(self, y, ildj):
        y._tfflowdn_ildj = (self, ildj)

    @classmethod
    def _parameter_properties(cls, dtype):
        del dtype
        return {}


def num_pixels(images: tf.Tensor) -> tf.Tensor:
    """Returns H W of images [batch, H, W, C], in their dtype."""
    shape = images.shape if images.shape[-3:-1].is_fully_defined() else tf.shape(images)
    return tf.cast(shape[-3] * shape[-2], images.dtype)
