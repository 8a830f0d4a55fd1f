"""Deep Image Prior: a network is trained on the one picture that it denoises."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import tensorflow as tf

from tfflowdn import training
from tfflowdn.models import hourglass
from tfflowdn.models.losses import estimate_noise_sigma
from tfflowdn.progress import Progress

__all__ = ["DeepImagePrior", "PictureFit"]

CHECK_STEPS = 10
"""Steps between two comparisons with the noise level."""


@dataclasses.dataclass(frozen=True)
class PictureFit:
    """The fit of one picture.

    Attributes:
      denoised: The averaged output, float32 [H, W, C].
      noise_sigma: The noise level for the stop, in [0, 1] units.
      num_steps: The steps that were taken.
      residual: Root mean squared difference of `denoised` and the noisy picture, over
        `noise_sigma`.
      seconds: Time that the fit took.
    """

    denoised: np.ndarray
    noise_sigma: float
    num_steps: int
    residual: float
    seconds: float


class DeepImagePrior:
    """Denoises a picture by fitting a network to it, without any training pictures.

    A network with a fixed random input learns to output the noisy picture. It learns
    the picture before the noise (Ulyanov et al. 2018, arXiv 1711.10925). The fit stops
    when the difference between the averaged output and the noisy picture is as large as
    the noise (discrepancy principle: Morozov 1966). The noise must be independent from
    pixel to pixel.

    It is called like a network, so `Denoiser(DeepImagePrior(), max_pixels=...)` handles
    pictures of any dtype. `max_pixels` must then exceed the size of the pictures: tiles
    would be fitted one by one.

    Args:
      channels: Channels of the pictures.
      noise_sigma: Standard deviation of the noise in [0, 1] units; None to estimate it
        from each picture.
      discrepancy: The fit stops when the mean squared difference is at most this
        multiple of the variance of the noise. It is below 1 because the output contains
        a part of the noise when it is best.
      max_steps: The largest number of steps.
      learning_rate: The learning rate of Muon.
      momentum: Momentum of the average of the outputs.
      input_noise: Standard deviation of the noise that each step adds to the input.
      input_channels: Channels of the input.
      widths: See `models.hourglass`.
      precision: See `models.hourglass`.
      seed: Seed of the input, its noise and the weights.

    Raises:
      ValueError: If `channels`, `noise_sigma`, `discrepancy`, `max_steps` or `momentum`
        is outside its range.
    """

    name = "deep_image_prior"
    receptive_radius = 0
    scale = 1
    pixel_range = "dtype"
    weights = ()

    def __init__(
        self,
        channels: int = 1,
        *,
        noise_sigma: float | None = None,
        discrepancy: float = 0.9,
        max_steps: int = 2000,
        learning_rate: float = 0.02,
        momentum: float = 0.99,
        input_noise: float = 0.03,
        input_channels: int = 8,
        widths: tuple[int, ...] = (32, 64, 64, 64, 64),
        precision: str = "float32",
        seed: int = 0,
    ) -> None:
        _check("channels", channels, channels in range(1, 17), "1 to 16")
        is_valid = noise_sigma is None or 0 < noise_sigma <= 1
        _check("noise_sigma", noise_sigma, is_valid, "above 0 and at most 1, or None")
        _check("discrepancy", discrepancy, 0 < discrepancy < np.inf, "above 0")
        _check("max_steps", max_steps, max_steps >= 1, "1 or more")
        _check("momentum", momentum, 0 <= momentum < 1, "at least 0 and below 1")
        self.channels = channels
        self.noise_sigma = noise_sigma
        self.discrepancy = discrepancy
        self.max_steps = max_steps
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.input_noise = input_noise
        self.input_channels = input_channels
        self.widths = widths
        self.precision = precision
        self.seed = seed

    def __call__(
        self, noisy: np.ndarray | tf.Tensor, training: bool = False
    ) -> np.ndarray:
        """Returns the denoised pictures [batch, H, W, channels], float32."""
        del training
        return np.stack([self.fit(picture).denoised for picture in np.asarray(noisy)])

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns the input's shape."""
        return input_shape

    def fit(self, noisy: np.ndarray) -> PictureFit:
        """Fits a new network to a picture.

        Args:
          noisy: [H, W, channels] in [0, 1] units. Values outside of this range cannot
            be output.

        Raises:
          ValueError: If the picture has another shape.
        """
        noisy = np.asarray(noisy, np.float32)
        if noisy.ndim != 3 or noisy.shape[-1] != self.channels or not noisy.size:
            raise ValueError(
                f"noisy must be [H, W, {self.channels}]. Received: {noisy.shape=}."
            )
        begin = time.monotonic()
        sigma = self._sigma(noisy)
        if sigma == 0:  # Nothing to remove, or too small to see any noise.
            return PictureFit(noisy, 0.0, 0, 0.0, time.monotonic() - begin)
        trainer = _Trainer(self, noisy)
        error, count = np.inf, 0
        with Progress(self.max_steps, "step", "Deep Image Prior") as progress:
            while count < self.max_steps and error > self.discrepancy * sigma**2:
                num_steps = min(CHECK_STEPS, self.max_steps - count)
                for _ in range(num_steps):
                    trainer.step(tf.constant(count))
                    count += 1
                denoised = trainer.average(count)
                error = float(np.mean((denoised - noisy) ** 2))
                progress.update(num_steps, residual=f"{np.sqrt(error) / sigma:.3f}")
        residual = float(np.sqrt(error) / sigma)
        seconds = time.monotonic() - begin
        return PictureFit(denoised, sigma, count, residual, seconds)

    def _sigma(self, noisy: np.ndarray) -> float:
        if self.noise_sigma is not None:
            return self.noise_sigma
        if min(noisy.shape[:2]) < 3:
            return 0.0
        return float(estimate_noise_sigma(tf.constant(noisy[np.newaxis]))[0])


class _Trainer:
    """The network of one picture, its optimizer and the average of its outputs."""

    def __init__(self, options: DeepImagePrior, noisy: np.ndarray) -> None:
        self._options = options
        self._noisy = tf.constant(noisy[np.newaxis])
        shape = (*noisy.shape[:2], options.input_channels)
        self._network = hourglass(
            shape,
            options.channels,
            widths=options.widths,
            precision=options.precision,
            seed=options.seed,
        )
        self._input = 0.1 * tf.random.stateless_uniform((1, *shape), [options.seed, 0])
        self._optimizer = training.OPTIMIZERS["muon"](options.learning_rate)
        self._optimizer.build(self._network.trainable_variables)
        self._sum = tf.Variable(tf.zeros_like(self._noisy))

    @tf.function
    def step(self, index: tf.Tensor) -> None:
        """Takes one step, and adds its output to the average."""
        options = self._options
        seed = tf.stack([options.seed + 1, index])
        noise = tf.random.stateless_normal(self._input.shape, seed)
        variables = self._network.trainable_variables
        with tf.GradientTape() as tape:
            output = self._network(self._input + options.input_noise * noise)
            loss = tf.reduce_mean((output - self._noisy) ** 2)
        gradients = tape.gradient(loss, variables)
        self._optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self._sum.assign(options.momentum * self._sum + output)

    def average(self, count: int) -> np.ndarray:
        """Returns the average of the outputs of the first steps, [H, W, C]."""
        momentum = self._options.momentum
        total = (1 - momentum**count) / (1 - momentum)
        return self._sum.numpy()[0] / np.float32(total)


def _check(name: str, value: object, is_valid: bool, rule: str) -> None:
    if not is_valid:
        raise ValueError(f"{name} must be {rule}. Received: {name}={value!r}.")
