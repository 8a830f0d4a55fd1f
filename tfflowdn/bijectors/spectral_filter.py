"""Spectral filter: correlates neighboring pixels."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfflowdn.bijectors.one_pass import OnePassBijector

__all__ = ["SpectralFilter"]


class SpectralFilter(OnePassBijector):
    """Convolves each channel periodically with a kernel of positive spectrum.

    Transforms images [batch, H, W, C]; `layer` gives the log-amplitude `a` [H, W, C]
    of the kernel's discrete Fourier transform F, which has no phase: white noise
    becomes noise of that spectrum. The log-dets are the same for every image, of
    shape [].

    - forward: `y = F^-1[exp(a) F[x]]`
    - forward log-det: `sum(a)`
    - inverse: `x = F^-1[exp(-a) F[y]]`
    - inverse log-det: `-sum(a)`
    """

    def __init__(
        self,
        layer: Callable,
        *,
        validate_args: bool = False,
        name: str = "spectral_filter",
    ) -> None:
        parameters = dict(locals())
        self.layer = layer
        super().__init__(parameters=parameters, name=name, validate_args=validate_args)

    def _forward_and_ildj(self, x):
        log_amplitude = self.layer(x)
        return _filter(x, tf.exp(log_amplitude)), -tf.reduce_sum(log_amplitude)

    def _inverse_and_ildj(self, y):
        log_amplitude = self.layer(y)
        return _filter(y, tf.exp(-log_amplitude)), -tf.reduce_sum(log_amplitude)


def _filter(images, amplitude):
    size = tf.shape(images)[1:3]
    planes = tf.transpose(images, [0, 3, 1, 2])
    # The transform of real pixels is given by half of the columns.
    amplitude = tf.transpose(amplitude, [2, 0, 1])[..., : size[1] // 2 + 1]
    spectrum = tf.signal.rfft2d(planes)
    spectrum *= tf.complex(amplitude, tf.zeros_like(amplitude))
    filtered = tf.signal.irfft2d(spectrum, fft_length=size)
    return tf.ensure_shape(tf.transpose(filtered, [0, 2, 3, 1]), images.shape)
