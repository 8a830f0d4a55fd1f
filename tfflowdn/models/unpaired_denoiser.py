"""UnpairedDenoiser: stage 2, a network trained on noisy pictures and a prior."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfflowdn import losses
from tfflowdn.layers import GaussianBlur
from tfflowdn.metrics import PSNR
from tfflowdn.models.flow_prior import step_seed

__all__ = ["UnpairedDenoiser"]


@keras.saving.register_keras_serializable("tfflowdn")
class UnpairedDenoiser(keras.Model):
    """Trains a network on noisy pictures alone, under a frozen prior.

    Minimises, over the network's weights,

        mean((B(D) - B(N))^2) - lambda log f_C(D) / dims

    with D the network's output for the noisy pictures N, B a Gaussian blur, f_C the
    prior and lambda its weight (Kattakinda and Rajagopalan 2020, arXiv 2009.11532).
    A flow expects the dequantisation noise that it was trained with: `dequantize` adds
    the same to D where the prior is evaluated, and the steps average over it.

    `fit` takes batches of noisy pictures [batch, H, W, C] in [0, 1] units; validation
    data may be (noisy, clean), then `psnr` is tracked.

    Args:
      network: Any Keras model from noisy pictures to denoised ones.
      prior: A trained FlowPrior; it is frozen.
      blur_sigma: Standard deviation of B in pixels; 0 for none.
      prior_weight: lambda, or "map" for `map_factor` times 2 sigma^2, with sigma
        estimated from each noisy picture.
      map_factor: Factor on the MAP weight.
      dequantize: Whether the prior is evaluated at D plus its dequantisation noise;
        False for D itself.
      seed: Seed of that noise.

    Raises:
      ValueError: For a weight that is no number of 0 or more and not "map".
    """

    def __init__(
        self,
        network: keras.Model,
        prior: keras.Model,
        *,
        blur_sigma: float = 0.0,
        prior_weight: float | str = "map",
        map_factor: float = 0.45,
        dequantize: bool = True,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check_prior_weight(prior_weight)
        self.network = network
        self.prior = prior
        self.prior.trainable = False
        self.blur = GaussianBlur(blur_sigma)
        self.prior_weight = prior_weight
        self.map_factor = map_factor
        self.dequantize = dequantize
        self.seed = seed
        self.loss_tracker = keras.metrics.Mean("loss")
        self.blur_mse_tracker = keras.metrics.Mean("blur_mse")
        self.prior_bits_per_dim_tracker = keras.metrics.Mean("prior_bits_per_dim")
        self.psnr_tracker = PSNR(data_range=1.0, name="psnr")
        self.built = True

    def call(self, noisy, training=None):
        """Returns the denoised pictures, of the shape of the noisy ones."""
        return self.network(noisy, training=training)

    def objective(self, denoised, noisy, seed=(0, -1)):
        """Returns (loss, blur_mse, nats per dimension) of each picture, [batch].

        Args:
          denoised: D, [batch, H, W, C] in [0, 1] units.
          noisy: N, of the same shape.
          seed: Two ints, of the dequantisation noise.
        """
        blur_mse = losses.blur_fidelity(denoised, noisy, self.blur)
        if self.dequantize:
            denoised = self.prior.dequantize(denoised, seed)
        nats = losses.negative_log_likelihood(self.prior, denoised)
        return blur_mse + self._weight(noisy) * nats, blur_mse, nats

    def train_step(self, data):
        """One step on noisy pictures; references, if any, are not looked at."""
        noisy = keras.utils.unpack_x_y_sample_weight(data)[0]
        variables = self.network.trainable_variables
        seed = step_seed(self.seed, self.optimizer)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            terms = self.objective(self(noisy, training=True), noisy, seed)
            # Gradients are summed over the replicas.
            num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
            replica_loss = tf.reduce_mean(terms[0]) / num_replicas
        gradients = tape.gradient(replica_loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self._update_trackers(*terms)

    def test_step(self, data):
        """Updates the objective's terms, and psnr where data is (noisy, clean)."""
        noisy, clean, _ = keras.utils.unpack_x_y_sample_weight(data)
        denoised = self(noisy, training=False)
        logs = self._update_trackers(*self.objective(denoised, noisy))
        if clean is not None:
            self.psnr_tracker.update_state(clean, denoised)
            logs["psnr"] = self.psnr_tracker.result()
        return logs

    def get_config(self):
        """Returns the constructor's arguments, models serialised."""

        def serialize(model):
            config = keras.saving.serialize_keras_object(model)
            return {**config, "compile_config": None}

        config = {
            "network": serialize(self.network),
            "prior": serialize(self.prior),
            "blur_sigma": self.blur.sigma,
            "prior_weight": self.prior_weight,
            "map_factor": self.map_factor,
            "dequantize": self.dequantize,
            "seed": self.seed,
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        """Builds the model from `get_config()`."""
        deserialize = keras.saving.deserialize_keras_object
        models = {name: deserialize(config[name]) for name in ("network", "prior")}
        return cls(**{**config, **models})

    def _weight(self, noisy):
        if self.prior_weight == "map":
            sigma = losses.estimate_noise_sigma(noisy)
            return losses.map_prior_weight(sigma, self.map_factor)
        return self.prior_weight

    def _update_trackers(self, loss, blur_mse, nats):
        self.loss_tracker.update_state(loss)
        self.blur_mse_tracker.update_state(blur_mse)
        self.prior_bits_per_dim_tracker.update_state(nats / tf.math.log(2.0) + 8)
        trackers = (
            self.loss_tracker,
            self.blur_mse_tracker,
            self.prior_bits_per_dim_tracker,
        )
        return {tracker.name: tracker.result() for tracker in trackers}


def _check_prior_weight(prior_weight):
    is_number = isinstance(prior_weight, int | float) and prior_weight >= 0
    if not (is_number or prior_weight == "map"):
        raise ValueError(
            'prior_weight must be a number of 0 or more, or "map". '
            f"Received: prior_weight={prior_weight!r}."
        )
