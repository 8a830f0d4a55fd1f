"""Scaling of real data: values below a range, few counts, a large range."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from tfflowdn import Denoiser, ResNetDenoiser, data
from tfflowdn.inference import Anscombe, Asinh, Log, find_scaling, transforms
from tfflowdn.inference.noise_level import block_statistics, fit_photon_noise
from tfflowdn.inference.unbiased import PixelNoise


@pytest.fixture(scope="module")
def general():
    return Denoiser.from_pretrained("denoiser_gray")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_smooth_pictures_hold_no_counts(dtype):
    ramp = np.linspace(60, 200, 48) * np.ones((48, 1)) + np.linspace(0, 7, 48)[:, None]
    pixels = np.rint(ramp).astype(dtype)[..., np.newaxis]
    assert not find_scaling([pixels], None).is_low_count


def _stars(rng, size=128):
    rows, columns = np.mgrid[:size, :size]
    sky = np.full((size, size), 100.0)
    for _ in range(16):
        row, column = rng.uniform(0, size, 2)
        flux = np.exp(rng.uniform(np.log(100), np.log(50_000)))
        sky += flux * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 6.5)
    return sky, rng.poisson(sky).astype(np.uint16)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_values_below_the_range_get_a_sound_one(general, rng, caplog, dtype):
    clean = -1000 + 60 * np.sin(np.linspace(0, 6, 96))[:, None] * np.ones(96)
    noisy = np.rint(clean + 100 * rng.standard_normal(clean.shape)).astype(dtype)
    with caplog.at_level(logging.WARNING):
        result = general(noisy)
    assert "outside of the model's range, dtype; --range=" in caplog.text
    error = np.mean((result - clean) ** 2)
    assert 10 * np.log10(1000**2 / error) > 33
    assert abs(result.mean() - noisy.mean()) < 2
    assert result.dtype == dtype


def test_noise_around_zero_is_not_outside(rng):
    noisy = (0.2 * rng.standard_normal((48, 48, 1))).astype(np.float32)
    noisy[:24] += 0.7
    assert find_scaling([noisy], None).limits is None
    for pixel_range in ("0,1", "dtype", "1%,99%"):  # A given range is used.
        given = find_scaling([noisy - 3], pixel_range).limits
        assert given == data.find_limits(pixel_range, [noisy - 3])


@pytest.mark.parametrize("source", ["uint8", "uint16", "int16"])
@pytest.mark.parametrize("dtype", [None, "float32"])
@pytest.mark.parametrize("mean", [0.05, 0.3, 3])
def test_the_mean_of_few_counts_is_kept(general, rng, caplog, source, dtype, mean):
    counts = rng.poisson(mean, (96, 96)).astype(source)
    with caplog.at_level(logging.WARNING):
        result = general(counts, dtype=dtype)
    error = counts.std() / np.sqrt(counts.size)
    assert abs(result.mean(dtype=float) - counts.mean()) < 0.5 * error
    assert result.dtype == (dtype or source)
    if dtype is None and not (source == "uint8" and mean == 3):
        assert "--dtype=float32" in caplog.text
    if dtype:
        assert "--dtype" not in caplog.text
        assert result.std() < counts.std() / 1.2


def test_few_counts_are_equal_in_tiles(rng):
    network = ResNetDenoiser(num_blocks=1, hidden_channels=4)
    counts = rng.poisson(0.5, (90, 70, 2)).astype(np.uint16)  # With alpha.
    whole, tiled = (Denoiser(network, max_pixels=n)(counts) for n in (10**6, 5600))
    assert np.mean(whole != tiled) < 0.01
    np.testing.assert_array_equal(whole[..., 1], counts[..., 1])


def test_stars_are_offered_a_transform_that_calms_the_sky(general, rng, caplog):
    clean, noisy = _stars(rng)
    sky = clean < 101
    with caplog.at_level(logging.WARNING):
        plain = general(noisy)
    assert "--transform=anscombe" in caplog.text
    of_model = find_scaling([noisy[..., None]], None, default_range="0,65535")
    assert not of_model.notes  # A model with a range has learned its noise.
    result = general(noisy, transform="anscombe")
    assert result.dtype == np.uint16
    assert result[sky].std() < min(5.3, plain[sky].std())
    assert abs(result[sky].mean() - clean[sky].mean()) < 0.5
    given = general(noisy, transform="anscombe", gain=1.0, offset=0.0, strength=0.5)
    assert given[sky].std() < noisy[sky].std()


@pytest.mark.parametrize("name", ["anscombe", "asinh", "log"])
def test_transforms_are_undone(name, rng):
    noisy = rng.poisson(200, (24, 24, 1)).astype(np.uint16)
    transform = find_scaling([noisy], None, transform=name, gain=2.0).transform
    values = np.arange(0, 60_000, 17)
    forward = transform.forward(values)
    assert (np.diff(forward) >= 0).all()
    # The unbiased inverse is above the plain one where the noise bends the transform.
    least = transform.offset + (0 if name == "anscombe" else 200)
    expected = values[least < values]
    inverse = transform.inverse(forward[least < values])
    tolerance = 0.6 if name == "anscombe" else 2.0
    np.testing.assert_allclose(inverse, expected, atol=tolerance)


PHOTONS = PixelNoise(gain=2.5, offset=100)
EVERYWHERE = PixelNoise(sigma=7.0)


@pytest.mark.parametrize("photons", [0.1, 0.3, 1, 7, 59, 61, 500, 20_000])
@pytest.mark.parametrize(
    "transform",
    [
        Anscombe(gain=2.5, offset=100),
        *(kind(5, offset, PHOTONS) for kind in (Asinh, Log) for offset in (100, 160)),
    ],
    ids=lambda transform: f"{type(transform).__name__}-{transform.offset:.0f}",
)
def test_inverses_are_unbiased_for_counts(rng, transform, photons):
    values = 2.5 * rng.poisson(photons, 200_000) + 100
    mean = transform.forward(values).mean()
    (found,) = transform.inverse(np.array([mean]))
    spread = 2.5 * np.sqrt(photons / 200_000)
    assert abs(found - (2.5 * photons + 100)) < 4 * spread


@pytest.mark.parametrize("value", [-500, -3, 0, 4, 50, 10_000])
@pytest.mark.parametrize("kind", [Asinh, Log])
def test_inverses_are_unbiased_for_noise_that_is_equal_everywhere(rng, kind, value):
    values = value + 7 * rng.standard_normal(200_000)
    for unit in (2, 7):
        transform = kind(unit, 3, EVERYWHERE)
        (found,) = transform.inverse(transform.forward(values).mean(keepdims=True))
        assert abs(found - value) < 4 * 7 / 200_000**0.5


@pytest.mark.parametrize("name", ["asinh", "log"])
@pytest.mark.parametrize("photons", [2, 50])
def test_the_noise_of_a_picture_makes_its_inverse_unbiased(rng, name, photons):
    field = np.geomspace(photons, 8 * photons, 200) * np.ones((200, 1))
    noisy = (100 + 2.5 * rng.poisson(field))[..., np.newaxis]
    transform = find_scaling([noisy], None, transform=name).transform
    means = transform.forward(noisy).mean((0, 2))
    off = transform.inverse(means) - (100 + 2.5 * field[0])
    plain = transform._plain_inverse(means) - (100 + 2.5 * field[0])
    spread = np.sqrt(np.mean(2.5**2 * field[0]) / field.size)
    assert abs(off.mean()) < 0.3 * abs(plain.mean()) + 4 * spread
    assert abs(plain.mean()) > 5 * spread


def test_read_noise_is_part_of_the_offset(rng):
    transform = Anscombe(gain=2.0, offset=100 - 36 / 2)
    photons = 40
    values = 2 * rng.poisson(photons, 200_000) + 100 + 6 * rng.standard_normal(200_000)
    forward = transform.forward(values)
    assert forward.std() == pytest.approx(1, abs=0.02)
    assert transform.inverse(np.array([forward.mean()]))[0] == pytest.approx(180, 0.002)


@pytest.mark.parametrize("gain, offset", [(1, 0), (2.5, 100), (30, 400)])
def test_gain_and_offset_are_estimated(rng, gain, offset):
    photons = np.geomspace(10, 500, 256) * np.ones((256, 1))
    picture = (gain * rng.poisson(photons) + offset)[..., np.newaxis]
    fit = fit_photon_noise(block_statistics(picture))
    assert fit.gain == pytest.approx(gain, rel=0.15)
    assert fit.offset == pytest.approx(offset, abs=10 * gain)
    assert fit.growth > 2
    noise = gain * 10 * rng.standard_normal((256, 256, 1))
    assert fit_photon_noise(block_statistics(noise + picture * 0)) is None or (
        fit_photon_noise(block_statistics(noise)).growth < 1.5
    )


@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (6, 6), (7, 8)])
def test_small_and_flat_pictures_have_a_scaling(shape):
    for value in (0, 7):
        pixels = np.full((*shape, 1), value, np.uint16)
        scaling = find_scaling([pixels], None)
        assert scaling == (None, None, False, ())
        assert np.isfinite(block_statistics(pixels).sigma)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"transform": "sqrt"}, "transform must be one of .* transform='sqrt'"),
        ({"transform": "anscombe"}, "noise must grow .* give --gain and --offset"),
        ({"transform": "asinh", "gain": 0.0}, "gain must be above 0"),
        ({"transform": "log", "gain": -1.0}, "gain must be above 0"),
    ],
)
def test_other_transforms_are_errors(rng, options, message):
    pixels = (100 + rng.standard_normal((24, 24, 1))).astype(np.float32)
    with pytest.raises(ValueError, match=message):
        find_scaling([pixels], None, **options)
    with pytest.raises(ValueError, match="at least 8 x 8 pixels"):
        find_scaling([pixels[:3, :3]], None, transform="log")


def test_every_transform_is_named():
    assert {"anscombe": Anscombe, "asinh": Asinh, "log": Log} == transforms.TRANSFORMS
