"""The model that `denoise` picks by looking at a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tfflowdn import adapt, data, inference
from tfflowdn.adapt import model_pick as module
from tfflowdn.scripts import denoise as script
from tfflowdn.scripts.model_picker import ModelPicker

RNG = np.random.default_rng(0)


def soft_picture(side=192, noise=3.0):
    """Returns a photograph and noise, both enlarged by 3."""
    with Image.open(data.photographs()[0]) as image:
        small = np.asarray(image.convert("RGB"))[: side // 3, : side // 3]
    noisy = np.clip(0.5 * small + 60 + noise * RNG.normal(size=small.shape), 0, 255)
    enlarged = Image.fromarray(np.uint8(noisy)).resize((side, side), Image.BICUBIC)
    return np.asarray(enlarged)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    with Image.open(data.photographs()[0]) as image:
        image.convert("RGB").crop((0, 0, 192, 192)).save(folder / "sharp.jpg")
    Image.fromarray(soft_picture()).save(folder / "soft.JPG", quality=75)
    Image.fromarray(soft_picture()).save(folder / "soft.png")
    Image.fromarray(soft_picture()[..., 0]).save(folder / "gray.jpg")
    Image.fromarray(soft_picture()[:40, :40]).save(folder / "tiny.jpg")
    return folder


@pytest.fixture(scope="module")
def camera():
    denoiser = inference.Denoiser.from_pretrained(adapt.CAMERA)
    return lambda picture: denoiser(picture, pixel_range="dtype")


@pytest.mark.parametrize(
    ("name", "expected", "reason"),
    [
        ("soft.JPG", "denoiser_camera", "soft"),
        ("sharp.jpg", "denoiser_rgb", "sharper"),
        ("soft.png", "denoiser_rgb", "no JPEG"),
        ("gray.jpg", "denoiser_gray", "gray"),
        ("tiny.jpg", "denoiser_rgb", "too small"),
    ],
)
def test_the_model_suits_the_picture(folder, camera, name, expected, reason):
    pixels = data.read_image(folder / name)
    first, again = (adapt.pick_model(folder / name, pixels, camera) for _ in range(2))
    assert first == again and first.model == expected and reason in first.reason


@pytest.mark.parametrize(
    ("name", "start"), [("soft.JPG", "denoiser_camera"), ("sharp.jpg", "denoiser_rgb")]
)
def test_an_adaptation_starts_from_the_model_that_suits(folder, tmp_path, name, start):
    run = adapt.Adaptation(folder / name, tmp_path / "run", minutes=1)
    assert run.decisions.start == start
    assert run.decisions.reasons["start"]
    assert adapt.Adaptation(folder / name, tmp_path / "run", minutes=1).look == run.look


def test_the_looked_at_crop_begins_with_a_jpeg_block(tmp_path):
    pixels = np.uint8(RNG.integers(0, 256, (53, 75, 3)))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (plane,), failures = adapt.read_planes([tmp_path / "a.png"], 1, side=40)
    assert not failures
    np.testing.assert_array_equal(plane.pixels, pixels[:40, 16:56])


def test_what_removes_texture_is_not_picked(folder):
    pixels = data.read_image(folder / "soft.JPG")

    def strong(picture):
        return picture + np.float32(0.1) * np.sign(picture - picture.mean())

    def uneven(picture):
        result = picture.copy()
        result[:40, :40] += 0.01
        return result

    for camera in (strong, uneven):
        assert adapt.pick_model("a.jpg", pixels, camera).model == "denoiser_rgb"
    assert adapt.pick_model("a.jpg", pixels, lambda x: x + 0.01).model == adapt.CAMERA


def test_large_pictures_are_tried_in_four_places():
    seen = []
    pixels = np.zeros((1200, 1000, 3), np.uint8)
    module._is_evenly_noisy(pixels, lambda crop: seen.append(crop) or crop)
    assert [crop.shape for crop in seen] == [(128, 128, 3)] * 4


def test_files_get_the_model_and_the_summary_says_which(folder, tmp_path):
    picker = ModelPicker()
    inputs = [str(folder / name) for name in ("soft.JPG", "soft.png")]
    script.denoise_files(inputs, str(tmp_path / "auto"), picker)
    for name, model in (("soft.JPG", adapt.CAMERA), ("soft.png", "denoiser_rgb")):
        script.denoise_files([str(folder / name)], str(tmp_path / model), model)
        got = (tmp_path / "auto" / name).read_bytes()
        assert got == (tmp_path / model / name).read_bytes()
    assert any("1 by denoiser_camera (soft" in line for line in picker.summary())
    assert "denoiser_camera, soft" in picker.describe(folder / "soft.JPG")
    line = script.summary_line([1, 2], "OUT", picker)
    assert line.startswith("2 pictures are in OUT (1 by denoiser_")
    assert script.summary_line([1], "OUT", None) == "1 picture is in OUT"
