"""Noise2Void: blind spots that reveal nothing, its loss, training and saving."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfflowdn.models import Noise2Void, ResNetDenoiser, blind_spots


def _noisy(shape=(3, 13, 10, 2), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def _network(**options):
    return ResNetDenoiser(1, **{"num_blocks": 1, "hidden_channels": 4, **options})


OPTIONS = [
    {"replacement": replacement, "spacing": spacing, "radius": radius}
    for replacement in ("median", "neighbor")
    for spacing, radius in ((4, 2), (3, 1))
]


@pytest.mark.parametrize("options", OPTIONS)
def test_one_pixel_of_each_whole_cell_is_hidden_in_all_channels(options):
    noisy, spacing = _noisy(), options["spacing"]
    hidden, mask = blind_spots(noisy, [1, 2], **options)
    assert mask.shape == (3, 13, 10, 1)
    changed = np.any(hidden != noisy, axis=-1, keepdims=True)
    np.testing.assert_array_equal(changed, mask.numpy() == 1)
    height, width = 13 // spacing * spacing, 10 // spacing * spacing
    shape = (3, height // spacing, spacing, width // spacing, spacing)
    cells = np.reshape(mask[:, :height, :width], shape)
    np.testing.assert_array_equal(cells.sum(axis=(2, 4)), 1)
    np.testing.assert_array_equal(blind_spots(noisy, [1, 2], **options)[1], mask)
    assert np.any(blind_spots(noisy, [1, 3], **options)[1] != mask)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_replacement_consists_of_neighbors_and_never_of_the_pixel(options):
    noisy, radius = _noisy(), options["radius"]
    hidden, mask = (x.numpy() for x in blind_spots(noisy, [1, 2], **options))
    width = 2 * radius + 1
    for picture, row, column in np.argwhere(mask[..., 0] == 1):
        top, left = (
            min(max(0, at - radius), size - width)
            for at, size in ((row, 13), (column, 10))
        )
        window = noisy[picture, top : top + width, left : left + width]
        own = (row - top) * width + column - left
        neighbors = np.delete(window.reshape(width**2, -1), own, axis=0)
        value = hidden[picture, row, column]
        if options["replacement"] == "median":
            np.testing.assert_allclose(value, np.median(neighbors, 0), atol=1e-6)
        else:  # The same neighbor in all channels.
            assert np.any(np.all(neighbors == value, axis=1))


@pytest.mark.parametrize("replacement", ["median", "neighbor"])
def test_a_hidden_pixel_has_no_influence_wherever_it_is(replacement):
    """One hidden pixel in each of many pictures, at the borders as well."""
    noisy = tf.constant(_noisy((300, 6, 7, 1)))
    with tf.GradientTape() as tape:
        tape.watch(noisy)
        options = {"spacing": 7, "replacement": replacement}
        hidden, mask = blind_spots(noisy, [0, 0], **options)
        total = tf.reduce_sum(hidden)
    mask = mask.numpy()
    gradient = tape.gradient(total, noisy).numpy()
    assert mask.sum() > 200 and mask.sum(axis=0).min() > 0
    np.testing.assert_array_equal(gradient[mask == 1], 0)
    assert np.abs(gradient).max() > 1


def test_pictures_must_hold_the_neighbors():
    with pytest.raises(ValueError, match=r"at least 2 \* radius \+ 1 = 5.*Received"):
        blind_spots(_noisy((1, 9, 4, 1)), [0, 0])

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 1])])
    def in_a_graph(noisy):
        return blind_spots(noisy, [0, 0])

    assert in_a_graph(_noisy((1, 5, 5, 1)))[0].shape == (1, 5, 5, 1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least 2"):
        in_a_graph(_noisy((1, 5, 4, 1)))


def test_the_loss_is_the_mean_squared_error_of_the_hidden_pixels(randomize):
    network = _network()
    randomize(network)
    model = Noise2Void(network, seed=5)
    model.compile()
    noisy = _noisy((3, 9, 8, 1))
    logs = model.evaluate(noisy, batch_size=3, verbose=0, return_dict=True)
    hidden, mask = (x.numpy() for x in blind_spots(noisy, [5, -1]))
    errors = (network(hidden).numpy() - noisy)[mask == 1]
    np.testing.assert_allclose(logs["loss"], np.mean(errors**2), rtol=1e-5)


def test_with_a_floor_strong_noise_does_not_decide():
    network = _network()  # The identity: the replacement is the prediction.
    levels = np.array([0.01, 0.1], "float32")[:, None, None, None]
    noisy = levels * _noisy((2, 64, 64, 1))

    def loss_share(noise_floor):
        model = Noise2Void(network, noise_floor=noise_floor)
        model.compile()
        pair = model.evaluate(noisy, batch_size=2, verbose=0, return_dict=True)
        first = model.evaluate(noisy[:1], verbose=0, return_dict=True)
        return first["loss"] / pair["loss"]

    assert loss_share(None) < 0.05  # 0.01^2 against the mean of both squares.
    assert 0.4 < loss_share(1e-4) < 0.65


def test_psnr_of_references_is_tracked():
    model = Noise2Void(_network())
    model.compile()
    clean = np.full((2, 8, 8, 1), 0.5, np.float32)
    noisy = clean + 0.1 * np.sign(_noisy(clean.shape))
    logs = model.evaluate(noisy, clean, verbose=0, return_dict=True)
    assert set(logs) == {"loss", "psnr"}
    np.testing.assert_allclose(logs["psnr"], 20, atol=1e-3)


def test_it_learns_to_remove_white_noise_from_noisy_pictures_only():
    rng = np.random.default_rng(0)
    rows = np.sin(np.arange(16) / 3)[:, None] * np.ones(16)
    clean = np.float32(0.5 + 0.3 * rows)[None, ..., None]
    clean = np.repeat(clean, 64, axis=0)
    noisy = clean + 0.2 * rng.standard_normal(clean.shape).astype("float32")
    model = Noise2Void(_network(hidden_channels=8), replacement="neighbor")
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(noisy, batch_size=8, epochs=12, verbose=0)
    error = np.mean((model.predict(noisy, verbose=0) - clean) ** 2)
    assert error < 0.5 * 0.2**2


@pytest.mark.usefixtures("strategies")
def test_one_and_two_replicas_take_the_same_step(strategies, randomize):
    """A uniform picture has the same loss wherever it is hidden."""
    noisy = np.repeat(np.float32([0.2, 0.8]), 64).reshape(2, 8, 8, 1)
    steps = []
    for strategy in strategies:
        with strategy.scope():
            network = _network()
            randomize(network, scale=0.1)
            model = Noise2Void(network, spacing=1)
            model.compile(keras.optimizers.SGD(0.1))
        dataset = tf.data.Dataset.from_tensors(noisy).unbatch().batch(2)
        model.fit(dataset, shuffle=False, verbose=0)
        steps.append(network.get_weights())
    for one, two in zip(*steps, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_save_and_load(tmp_path, randomize):
    network = _network()
    randomize(network)
    options = {"spacing": 3, "radius": 1, "replacement": "neighbor", "seed": 7}
    model = Noise2Void(network, noise_floor=0.1, **options)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    noisy = _noisy((1, 6, 6, 1))
    np.testing.assert_array_equal(loaded(noisy), model(noisy))
    config = loaded.get_config()
    assert {name: config[name] for name in options} == options
    assert config["noise_floor"] == 0.1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"spacing": 0}, "spacing must be an integer.*Received: spacing=0"),
        ({"radius": 1.5}, "radius must be an integer.*Received: radius=1.5"),
        ({"replacement": "mean"}, "replacement must be one of.*'mean'"),
        ({"noise_floor": 0}, "noise_floor must be above 0.*Received: noise_floor=0"),
        ({"noise_floor": True}, "noise_floor must be above 0.*noise_floor=True"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        Noise2Void(_network(), **options)
    if "noise_floor" not in options:
        with pytest.raises(ValueError, match=message):
            blind_spots(_noisy(), [0, 0], **options)
