"""NoiseModel: the density of the noise, given the clean picture."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfflowdn import flows
from tfflowdn.bijectors import (
    InvertibleConvolution,
    LineScale,
    SignalScale,
    SignalSkew,
    SpectralFilter,
)
from tfflowdn.checks import check_finite_result
from tfflowdn.layers import (
    Cepstrum,
    LineVariance,
    NoiseLevel,
    NoiseSkew,
    OpponentColors,
    SymmetricParameters,
)
from tfflowdn.models.guarded_model import GuardedModel, only_if

__all__ = ["NoiseModel"]


@keras.saving.register_keras_serializable("tfflowdn")
class NoiseModel(GuardedModel):
    """Conditional flow of the noise given the clean picture.

    The flow transforms white latents in steps. SpectralFilter correlates
    neighboring pixels; in color pictures the gray and the opponent components have
    different correlations, since cameras and JPEG blur the latter more. SignalSkew adds
    a skewness that depends on the brightness of the picture: small photon counts have a
    positive skewness. InvertibleConvolution mixes the channels of color pictures.
    SignalScale multiplies by a function of the brightness and by the level of the
    picture, which is one of `log_levels` with equal probability. With `lines`,
    LineScale adds a common part to the pixels of each row and of each column, as
    scanners and fast image sensors do.

    `fit` maximizes the likelihood. It takes ((index, signal), noise): the number of
    the picture that a crop is from, [batch]; the picture [batch, H, W, C] in [0, 1]
    units; and its noise, of the same shape. Sample weights apply to crops.

    Args:
      channels: 1 or more.
      num_pictures: Number of levels.
      num_knots: Number of knots of the functions of the brightness, see NoiseLevel.
      order: Largest lag of the log-spectrum in pixels, see Cepstrum.
      smoothness: Weight of the roughness of these functions in the loss.
      lines: Whether the noise has a common part in each row and in each column.
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        num_pictures: int = 1,
        num_knots: int = 17,
        order: int = 6,
        smoothness: float = 0.1,
        lines: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.lines = lines
        self.num_pictures = num_pictures
        self.num_knots = num_knots
        self.order = order
        self.smoothness = smoothness
        dtype = self.variable_dtype
        self.noise_level = NoiseLevel(num_knots, dtype=dtype)
        self.noise_skew = NoiseSkew(num_knots, dtype=dtype)
        self.cepstrum = Cepstrum(order, dtype=dtype)
        self.mixing = None if channels == 1 else SymmetricParameters(dtype=dtype)
        self.colors = OpponentColors(dtype=dtype) if channels == 3 else None
        self.line_variance = LineVariance(dtype=dtype) if lines else None
        for layer in self._flow_layers():
            layer.build((None, None, None, channels))
        self.log_levels = self.add_weight(
            shape=(num_pictures,), initializer="zeros", name="log_levels"
        )
        self.loss_tracker = keras.metrics.Mean("loss")
        self.built = True

    def distribution(
        self,
        signal: npt.ArrayLike | tf.Tensor,
        log_level: npt.ArrayLike | tf.Tensor = 0.0,
        *,
        spectral_floor: float = 0.0,
        with_lines: bool = True,
    ) -> tfd.TransformedDistribution:
        """Returns the density of the noise of pictures with known levels.

        Args:
          signal: Clean pictures [batch, H, W, C] in [0, 1] units.
          log_level: Logarithm of the standard deviation of the noise (in the same
            units) at the mean of the noise level function; [batch] or [].
          spectral_floor: Standard deviation of white noise, relative to the noise, that
            is mixed into it; the power of the mixture is the power of the noise.
          with_lines: Whether the common parts of rows and columns belong to the noise.
        """
        signal = tf.convert_to_tensor(signal, self.variable_dtype)
        log_level = tf.convert_to_tensor(log_level, self.variable_dtype)
        if log_level.shape.rank:
            log_level = log_level[:, tf.newaxis, tf.newaxis, tf.newaxis]
        chain = []
        if self.lines and with_lines:
            chain.append(LineScale(self.line_variance))
        chain.append(SignalScale(self.noise_level, signal, log_level))
        if self.mixing is not None:
            chain.append(InvertibleConvolution(self.mixing))
        chain.append(SignalSkew(self.noise_skew, signal))
        if self.colors is not None:
            chain.append(InvertibleConvolution(self.colors))
        chain.append(SpectralFilter(_with_floor(self.cepstrum, spectral_floor)))
        base = flows.standard_normal(tf.shape(signal)[1:], self.variable_dtype)
        return tfd.TransformedDistribution(base, tfb.Chain(chain), name="noise")

    def standard_deviation(
        self,
        signal: npt.ArrayLike | tf.Tensor,
        log_level: npt.ArrayLike | tf.Tensor = 0.0,
    ) -> tf.Tensor:
        """Returns the root mean square of the noise in each picture, [batch].

        Args:
          signal: Clean pictures [batch, H, W, C] in [0, 1] units.
          log_level: As for `distribution`.
        """
        signal = tf.convert_to_tensor(signal, self.variable_dtype)
        power = tf.reduce_mean(tf.exp(2 * self.noise_level(signal)), [1, 2])
        if self.mixing is not None:
            _, inverse, _ = self.mixing(None)
            power *= tf.reduce_sum(tf.convert_to_tensor(inverse) ** 2, 0)
        if self.line_variance is not None:
            power *= 1 + tf.reduce_sum(tf.exp(self.line_variance(None)), 0)
        return tf.exp(log_level) * tf.sqrt(tf.reduce_mean(power, -1))

    def log_prob(
        self,
        noise: npt.ArrayLike | tf.Tensor,
        signal: npt.ArrayLike | tf.Tensor,
        log_level: npt.ArrayLike | tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the log-density of noise in nats per picture, [batch].

        Args:
          noise: [batch, H, W, C] in [0, 1] units.
          signal: The clean pictures, of the same shape.
          log_level: As for `distribution`; None averages over `log_levels`.

        Raises:
          ValueError: If finite pictures have a density that is not finite (a graph
            returns it).
        """
        noise = tf.identity(tf.convert_to_tensor(noise, self.variable_dtype))
        log_prob = self._log_prob(noise, signal, log_level)
        _check_finite("log-densities", log_prob, noise, signal)
        return log_prob

    def _log_prob(self, noise, signal, log_level):
        if log_level is not None:
            return self.distribution(signal, log_level).log_prob(noise)
        of_levels = tf.map_fn(
            lambda level: self.distribution(signal, level).log_prob(noise),
            tf.convert_to_tensor(self.log_levels),
        )
        return tf.reduce_logsumexp(of_levels, 0) - np.log(self.num_pictures)

    def sample(
        self,
        signal: npt.ArrayLike | tf.Tensor,
        seed: npt.ArrayLike | tf.Tensor,
        log_level: npt.ArrayLike | tf.Tensor | None = None,
        *,
        level_range: tuple[float, float] = (1.0, 1.0),
    ) -> tf.Tensor:
        """Draws noise for clean pictures.

        Args:
          signal: [batch, H, W, C] in [0, 1] units. The correlation is periodic: pixels
            at opposite edges are neighbors.
          seed: Two ints, as for `tf.random.stateless_normal`.
          log_level: As for `distribution`; None draws from `log_levels`.
          level_range: Smallest and largest factor of the drawn levels, uniform on a
            logarithmic scale.

        Returns:
          Noise of the shape of `signal`.

        Raises:
          ValueError: If `level_range` is not two positive numbers in order, or finite
            pictures get noise that is not finite (a graph returns it).
        """
        low, high = level_range
        if not 0 < low <= high < np.inf:
            raise ValueError(
                "level_range must be 0 < low <= high, both finite. "
                f"Received: {level_range=}."
            )
        signal = tf.convert_to_tensor(signal, self.variable_dtype)
        level_seed, noise_seed, gain_seed = tf.unstack(tf.random.split(seed, 3))
        if log_level is None:
            index = tf.random.stateless_uniform(
                tf.shape(signal)[:1], level_seed, 0, self.num_pictures, tf.int32
            )
            log_level = tf.gather(tf.convert_to_tensor(self.log_levels), index)
            log_level += tf.random.stateless_uniform(
                tf.shape(index), gain_seed, np.log(low), np.log(high), log_level.dtype
            )
        latents = tf.random.stateless_normal(
            tf.shape(signal), noise_seed, dtype=signal.dtype
        )
        bijector = self.distribution(signal, log_level).bijector
        noise = bijector.forward(tf.ensure_shape(latents, signal.shape))
        _check_finite("samples", noise, signal)
        return noise

    def call(
        self,
        signal: npt.ArrayLike | tf.Tensor,
        seed: npt.ArrayLike | tf.Tensor,
        level_range: tuple[float, float] = (1.0, 1.0),
    ) -> tf.Tensor:
        """Returns clean pictures with noise, see `sample`."""
        return signal + self.sample(signal, seed, level_range=level_range)

    def train_step(self, data: tuple) -> dict[str, tf.Tensor]:
        """Takes one step of maximum likelihood."""
        (index, signal), noise, weight = keras.utils.unpack_x_y_sample_weight(data)
        signal, noise = self.to_pictures(signal), self.to_pictures(noise)
        weight = self.to_weights(weight)
        variables = self.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            levels = tf.gather(tf.convert_to_tensor(self.log_levels), index)
            log_prob = self._log_prob(tf.identity(noise), signal, levels)
            nats = -weight * log_prob / tf.cast(tf.size(noise[0]), noise.dtype)
            curves = self.noise_level, self.noise_skew
            penalty = self.smoothness * sum(curve.roughness() for curve in curves)
            loss = tf.reduce_mean(nats) + penalty
            num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
            scaled_loss = self.scale() * loss / num_replicas
        finite = self.take_step(tape.gradient(scaled_loss, variables), variables)
        self.loss_tracker.update_state(*only_if(finite, loss))
        return {"loss": self.loss_tracker.result(), "skipped": self.skipped()}

    def level_curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the standard deviation of the noise by brightness.

        It is for the root mean square of the levels of the pictures.

        Returns:
          Brightness [knots] in [0, 1], and standard deviation [knots, C].
        """
        level = np.sqrt(np.mean(np.exp(2 * self.log_levels.numpy())))
        relative = np.exp(keras.ops.convert_to_numpy(self.noise_level.values()))
        # The noise of a channel is the product of the latents with its column.
        norm = np.sqrt(np.sum(self._columns() ** 2, axis=0))
        lines = np.sqrt(1 + self.line_variances().sum(0))
        return self._brightness(), _finite(level * relative * norm * lines)

    def skewness_curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the skewness of the noise by brightness.

        It is the third moment over the third power of the standard deviation, for the
        marginal density of a pixel.

        Returns:
          Brightness [knots] in [0, 1], and skewness [knots, C].
        """
        nodes, weights = np.polynomial.hermite_e.hermegauss(64)
        latents = np.float32(nodes)[:, np.newaxis, np.newaxis, np.newaxis]
        brightness = self._brightness()[:, np.newaxis]
        signal = np.float32(np.repeat(brightness, self.channels, -1))
        skewed = SignalSkew(self.noise_skew, signal).forward(
            np.broadcast_to(latents, (len(nodes), 1, *signal.shape))
        )
        weights = weights / weights.sum()
        moments = np.einsum("n,nkc->kc", weights, np.float64(skewed)[:, 0] ** 3)
        columns = self._columns()
        norm = np.sum(columns**2, axis=0) ** 1.5
        norm *= (1 + self.line_variances().sum(0)) ** 1.5
        return self._brightness(), _finite(moments @ columns**3 / norm)

    def line_variances(self) -> np.ndarray:
        """Returns the variances of the common parts of rows and columns, [2, C].

        They are relative to the variance of the noise without these parts.
        """
        if self.line_variance is None:
            return np.zeros((2, self.channels))
        return np.exp(keras.ops.convert_to_numpy(self.line_variance(None)))

    def set_line_variances(self, variances: npt.ArrayLike) -> None:
        """Sets the result of `line_variances`; 0 stands for no common part.

        Args:
          variances: [2, C], 0 or more.

        Raises:
          ValueError: If the noise has no `lines`.
        """
        if self.line_variance is None:
            raise ValueError(
                "lines must be True for variances of lines. Received: False."
            )
        log_variance = np.log(np.maximum(variances, 1e-9))
        self.line_variance.log_variance.assign(log_variance)

    def autocorrelation(self, size: int = 32, with_lines: bool = True) -> np.ndarray:
        """Returns the correlation at lags 0 to size // 2, [lags, lags, C].

        Args:
          size: Height and width of the noise in pixels.
          with_lines: Whether the common parts of rows and columns belong to the noise.
        """
        grid = tf.zeros((1, size, size, self.channels), self.variable_dtype)
        power = np.exp(2 * keras.ops.convert_to_numpy(self.cepstrum(grid)))
        correlation = np.fft.ifft2(power, axes=(0, 1)).real
        share = self._columns() ** 2
        if self.colors is not None:
            _, axes, _ = self.colors(grid)
            share = (np.float64(axes) @ self._columns()) ** 2
        correlation = correlation @ (share / share.sum(0))
        correlation = correlation[: size // 2 + 1, : size // 2 + 1]
        if with_lines:
            rows, columns = self.line_variances()
            correlation[0] += rows
            correlation[:, 0] += columns
            correlation /= 1 + rows + columns
        return _finite(correlation)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        config = {
            "channels": self.channels,
            "num_pictures": self.num_pictures,
            "num_knots": self.num_knots,
            "order": self.order,
            "smoothness": self.smoothness,
            "lines": self.lines,
        }
        return {**super().get_config(), **config}

    def _brightness(self):
        return np.linspace(0, 1, self.num_knots)

    def _columns(self):
        """Returns the weights of the latents [rows] in each channel [columns]."""
        if self.mixing is None:
            return np.ones((1, 1))
        _, inverse, _ = self.mixing(None)
        return np.float64(inverse)

    def _flow_layers(self):
        layers = [self.noise_level, self.cepstrum, self.mixing, self.noise_skew]
        layers.append(self.line_variance)
        return [layer for layer in layers if layer is not None]


def _finite(curve):
    """Returns a curve of the noise; ValueError if a value is not finite."""
    check_finite_result("curves", "the weights of the model must be finite", curve)
    return curve


def _check_finite(what, result, *pictures):
    """Checks eagerly that finite pictures have a finite result."""
    if not tf.executing_eagerly():
        return
    if all(np.isfinite(keras.ops.convert_to_numpy(one)).all() for one in pictures):
        cause = "pictures must be near [0, 1], and the weights of the model finite"
        check_finite_result(what, cause, result)


def _with_floor(log_amplitude, floor):
    """Returns the log-amplitude of a spectrum with white noise mixed in."""
    if not floor:
        return log_amplitude

    def mixed(images):
        power = tf.exp(2 * log_amplitude(images))
        return tf.math.log((power + floor**2) / (1 + floor**2)) / 2

    return mixed
