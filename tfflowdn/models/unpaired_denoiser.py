"""UnpairedDenoiser: trains a network on noisy pictures under a prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfflowdn.layers import GaussianBlur
from tfflowdn.metrics import PSNR, bits_per_dim
from tfflowdn.models import losses
from tfflowdn.models.batches import unpack, unpack_validation
from tfflowdn.models.dequantization import step_seed
from tfflowdn.models.guarded_model import GuardedModel, only_if
from tfflowdn.models.noise_likelihood import NoiseLikelihood
from tfflowdn.models.unpaired_options import (
    MODELS,
    OPTIONS,
    check_prior_weight,
    check_rehearsal_weight,
    serialize,
    without_removed,
)

__all__ = ["UnpairedDenoiser"]

MIN_SIGMA = 1 / 255
"""Smallest noise level in the bound, so that clean pictures have a gradient."""
MAX_LOSS = 1.0
"""Largest loss of a picture in the logs: the loss of black instead of white."""
MAX_BITS_PER_DIM = 32.0
"""Largest bits/dim of a picture in the logs."""


@keras.saving.register_keras_serializable("tfflowdn")
class UnpairedDenoiser(GuardedModel):
    """Trains a network on noisy pictures under a frozen prior.

    It minimizes, over the network's weights,

        mean((B(D) - B(N))^2) - lambda log f_C(D) / dims

    where D is the network's output for the noisy pictures N, B is a Gaussian blur, f_C
    is the density of the prior and lambda is its weight (Kattakinda and Rajagopalan
    2020, arXiv 2009.11532). A flow expects the dequantization noise that it was trained
    with. `dequantize` adds this noise to D before the prior is evaluated; the training
    steps average over it.

    With a learned noise, the data term is its likelihood, see NoiseLikelihood:

        2 sigma^2 (log p(0 | D) - log p(N - D | D)) / dims - lambda log f_C(D) / dims

    It knows the level of the noise at each brightness and the correlation of
    neighboring pixels, unlike the blur. The borders of the pictures, `taper` pixels
    wide, then have no gradient.

    A network that was trained with synthetic noise unlearns much of it under this
    objective. With rehearsal, each step also minimizes

        w mean((D_s - C)^2)

    where D_s is the output for unrelated clean pictures C with synthetic noise, and w
    is the rehearsal weight. Both data terms are means over pixels, so w needs no unit.

    `fit` takes batches of noisy pictures [batch, H, W, C] in [0, 1] units. With
    rehearsal it takes ((noisy, synthetic), clean) and tracks `rehearsal_mse`.
    Validation data are noisy pictures or (noisy, clean); the latter add `psnr`. The
    validation loss does not contain the rehearsal.

    Args:
      network: Any Keras model from noisy pictures to denoised ones.
      prior: A trained FlowPrior. It is frozen.
      noise: A trained NoiseModel for the data term, or None for the blur. It is frozen.
      reference: A trained network whose residuals give the level of the noise in each
        picture; None for the mean level of `noise`. It is frozen.
      spectral_floor: See NoiseLikelihood; only with `noise`.
      taper: See NoiseLikelihood.
      blur_sigma: Standard deviation of B in pixels; 0 for no blur.
      prior_weight: lambda. None for `map_factor` times 2 sigma^2, the weight of the
        maximum a posteriori (MAP), with the sigma of `noise`, or one that is estimated
        from each noisy picture.
      map_factor: Factor on the MAP weight.
      dequantize: Whether the prior is evaluated at D plus dequantization noise, or at
        D itself.
      gradient_bound: Bound on the gradient of each picture's objective with respect to
        D, in units of 2 sigma / sqrt(dims), which is the gradient of the data term when
        D differs from N by the noise. None for no bound. The density of a flow has no
        lower limit for pictures that it does not know, such as very noisy ones, and one
        such picture would dominate its batch. A picture whose gradient is not finite is
        left out of the step.
      rehearsal_weight: w; 0 for no rehearsal. The bound does not apply to it.
      seed: Seed of the dequantization noise.
      **kwargs: Arguments of `keras.Model`.

    Raises:
      ValueError: If a weight is not a valid number; from `fit` and `evaluate`, for
        batches of another structure.
    """

    def __init__(
        self,
        network: keras.Model,
        prior: keras.Model,
        *,
        noise: keras.Model | None = None,
        reference: keras.Model | None = None,
        spectral_floor: float = 0.2,
        taper: int = 8,
        blur_sigma: float = 0.0,
        prior_weight: float | None = None,
        map_factor: float = 0.45,
        dequantize: bool = True,
        gradient_bound: float | None = 10.0,
        rehearsal_weight: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_prior_weight(prior_weight)
        check_rehearsal_weight(rehearsal_weight)
        self.network = network
        self.prior = prior
        self.prior.trainable = False
        self.noise = noise
        self.reference = reference
        self.spectral_floor = spectral_floor
        self.taper = taper
        self.likelihood = self._make_likelihood()
        self.blur_sigma = blur_sigma
        self.blur = GaussianBlur(blur_sigma, dtype=self.variable_dtype)
        self.prior_weight = prior_weight
        self.map_factor = map_factor
        self.dequantize = dequantize
        self.gradient_bound = gradient_bound
        self.rehearsal_weight = rehearsal_weight
        self.seed = seed
        self.loss_tracker = keras.metrics.Mean("loss")
        name = "blur_mse" if noise is None else "noise_mismatch"
        self.data_tracker = keras.metrics.Mean(name)
        self.prior_bits_per_dim_tracker = keras.metrics.Mean("prior_bits_per_dim")
        self.rehearsal_mse_tracker = keras.metrics.Mean("rehearsal_mse")
        self.psnr_tracker = PSNR(data_range=1.0, name="psnr")
        self.built = True

    def call(self, noisy: Any, training: bool | None = None) -> tf.Tensor:
        """Returns the denoised pictures, in the shape of the noisy ones."""
        if self.rehearsal_weight and tf.nest.is_nested(noisy):
            noisy = noisy[0]  # Under a strategy, Keras builds it with a batch of `fit`.
        return self.network(noisy, training=training)

    def objective(
        self, denoised: tf.Tensor, noisy: tf.Tensor, seed: Sequence[int] = (0, -1)
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns (loss, data term, nats per dimension) of each picture, [batch].

        Args:
          denoised: D, [batch, H, W, C] in [0, 1] units.
          noisy: N, of the same shape.
          seed: Two integers, the seed of the dequantization noise.
        """
        mismatch = self._data_term(denoised, noisy)
        if self.dequantize:
            denoised = self.prior.dequantize(denoised, seed)
        nats = losses.negative_log_likelihood(self.prior, denoised)
        weight = self._weight(noisy)
        return mismatch + weight * nats, mismatch, nats

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Takes one step; references of the noisy pictures are ignored."""
        noisy, synthetic, clean, picture_weight = self._unpack(data)
        variables = self.network.trainable_variables
        seed = step_seed(self.seed, self.optimizer)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            outputs = [self._denoise(noisy)]
            mse = None
            if self.rehearsal_weight:
                errors = (self._denoise(synthetic) - clean) ** 2
                mse = tf.reduce_mean(errors, axis=(1, 2, 3))
                outputs.append(tf.reduce_mean(picture_weight * mse))
        with tf.GradientTape(watch_accessed_variables=False) as objective_tape:
            objective_tape.watch(outputs[0])
            terms = self.objective(outputs[0], noisy, seed)
        # The gradient of the sum consists of the gradients of the pictures.
        gradient = objective_tape.gradient(terms[0], outputs[0])
        gradient = self._bounded(gradient, noisy)
        gradient *= tf.reshape(picture_weight, [-1, 1, 1, 1])
        # Gradients are summed over the replicas.
        factor = self.scale() / tf.distribute.get_strategy().num_replicas_in_sync
        num_pictures = tf.cast(tf.shape(noisy)[0], gradient.dtype)
        output_gradients = [factor * gradient / num_pictures]
        if self.rehearsal_weight:
            output_gradients.append(factor * self.rehearsal_weight)
        gradients = tape.gradient(outputs, variables, output_gradients)
        finite = self.take_step(gradients, variables)
        logs = self._update_trackers(*terms, mse, picture_weight, finite)
        return {**logs, "skipped": self.skipped()}

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Updates the objective's terms and, if data is (noisy, clean), psnr.

        Raises:
          ValueError: If `noisy` in `data` is not one tensor.
        """
        noisy, clean, sample_weight = unpack_validation(data)
        noisy, weight = self.to_pictures(noisy), self.to_weights(sample_weight)
        denoised = self._denoise(noisy, training=False)
        terms = self.objective(denoised, noisy)
        logs = self._update_trackers(*terms, picture_weight=weight)
        if clean is not None and clean.shape.rank == 4:
            self.psnr_tracker.update_state(self.to_pictures(clean), denoised, weight)
            logs["psnr"] = self.psnr_tracker.result()
        return logs

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, with serialized models."""
        models = {name: serialize(getattr(self, name)) for name in MODELS}
        options = {name: getattr(self, name) for name in OPTIONS}
        return {**super().get_config(), **models, **options}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> UnpairedDenoiser:
        """Builds the model from `get_config()`."""
        deserialize = keras.saving.deserialize_keras_object
        models = {n: deserialize(config[n]) for n in MODELS if config.get(n)}
        return cls(**{**without_removed(config), **models})

    def _denoise(self, noisy: tf.Tensor, training: bool = True) -> tf.Tensor:
        return tf.cast(self(noisy, training=training), self.variable_dtype)

    def _unpack(self, data: Any) -> tuple[tf.Tensor | None, ...]:
        """Returns (noisy, synthetic, clean, weights of pictures).

        Without rehearsal, synthetic and clean are None.
        """
        *pictures, weight = unpack(data, self.rehearsal_weight)
        pictures = [p if p is None else self.to_pictures(p) for p in pictures]
        return *pictures, self.to_weights(weight)

    def _make_likelihood(self) -> NoiseLikelihood | None:
        if self.noise is None:
            return None
        return NoiseLikelihood(
            self.noise,
            self.reference,
            spectral_floor=self.spectral_floor,
            taper=self.taper,
        )

    def _data_term(self, denoised: tf.Tensor, noisy: tf.Tensor) -> tf.Tensor:
        if self.likelihood is None:
            return losses.blur_fidelity(denoised, noisy, self.blur)
        return self.likelihood(denoised, noisy, self.likelihood.log_level(noisy))

    def _sigma(self, noisy: tf.Tensor) -> tf.Tensor:
        if self.likelihood is None:
            return losses.estimate_noise_sigma(noisy)
        return self.likelihood.sigma(noisy, self.likelihood.log_level(noisy))

    def _weight(self, noisy: tf.Tensor) -> tf.Tensor | float:
        if self.prior_weight is None:
            return losses.map_prior_weight(self._sigma(noisy), self.map_factor)
        return self.prior_weight

    def _bounded(self, gradient: tf.Tensor, noisy: tf.Tensor) -> tf.Tensor:
        """Bounds each picture's gradient; a gradient that is not finite becomes 0."""
        if self.likelihood is not None:
            gradient *= self.likelihood.window(noisy)
        if self.gradient_bound is None:
            return gradient
        sigma = tf.maximum(self._sigma(noisy), MIN_SIGMA)
        return losses.bound_gradient(gradient, sigma, self.gradient_bound)

    def _update_trackers(
        self,
        loss: tf.Tensor,
        mismatch: tf.Tensor,
        nats: tf.Tensor,
        rehearsal_mse: tf.Tensor | None = None,
        picture_weight: tf.Tensor | float = 1.0,
        finite: tf.Tensor | bool = True,
    ) -> dict[str, tf.Tensor]:
        bits = bits_per_dim(-nats, 1)
        if self.gradient_bound is not None:  # One picture would dominate the means.
            loss = tf.minimum(loss, MAX_LOSS)
            bits = tf.minimum(bits, MAX_BITS_PER_DIM)
        values = {
            self.loss_tracker: loss,
            self.data_tracker: mismatch,
            self.prior_bits_per_dim_tracker: bits,
        }
        if rehearsal_mse is not None:
            values[self.loss_tracker] = loss + self.rehearsal_weight * rehearsal_mse
            values[self.rehearsal_mse_tracker] = rehearsal_mse
        for tracker, value in values.items():
            tracker.update_state(*only_if(finite, value, picture_weight))
        return {tracker.name: tracker.result() for tracker in values}
