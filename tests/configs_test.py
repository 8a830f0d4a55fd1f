"""Every key of every configuration is an argument of the function that it goes to."""

import inspect
import runpy
from pathlib import Path

import pytest

from tfflowdn import data, models, noise, training
from tfflowdn.noise import GenericNoise, estimate_calm_noise, estimate_noise
from tfflowdn.stages import denoiser as train_denoiser
from tfflowdn.stages import prior as train_prior

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.py"))
# What the scripts add to a section themselves.
FIT_GIVEN = (
    "model batches directory validation monitor save_best callbacks batch_names stop "
    "loss metrics"
)
SECTIONS = {
    "prior": {
        "prior": (models.FlowPrior, "trainable pixel_range kwargs"),
        "clean": (data.open_source, "channels"),
        "validation": (data.open_source, "channels pixel_range"),
        "crops": (data.RandomCrops, "source crop_size"),
        "training": (training.fit, FIT_GIVEN),
    },
    "denoiser": {
        "noisy": (data.open_source, "channels"),
        "clean": (data.open_source, "channels"),
        "network": (models.ResNetDenoiser, "channels pixel_range kwargs"),
        "start.crops": (data.RandomCrops, "source"),
        "start.noise": (GenericNoise, ""),
        "start.loss": (train_denoiser.weighted_pairs, "pairs"),
        "start.training": (training.fit, FIT_GIVEN),
        "objective.crops": (data.RandomCrops, "source"),
        "objective.loss": (models.UnpairedDenoiser, "network prior kwargs"),
        "objective.training": (training.fit, FIT_GIVEN),
        "distill.crops": (data.RandomCrops, "source"),
        "distill.noise": (noise.NoiseModel.call, "self signal seed"),
        "distill.loss": (train_denoiser.weighted_pairs, "pairs"),
        "distill.training": (training.fit, FIT_GIVEN),
    },
    "noise": {
        "noisy": (data.open_source, "channels"),
        "clean": (data.open_source, "channels"),
        "residuals": (
            estimate_noise,
            "denoise noisy clean model_options",
        ),
        "calm": (estimate_calm_noise, "noisy model_options"),
        "model": (noise.NoiseModel, "channels num_pictures kwargs"),
    },
}
READ_BY_NAME = {
    "prior": set(),
    "denoiser": {"prior", "denoiser", "noise", "validation.noisy", "validation.clean"},
    "noise": {"denoiser", "reference", "evidence", "max_pictures", "max_side"},
}


def _variants():
    for path in CONFIGS:
        module = runpy.run_path(str(path))
        for variant in module["VARIANTS"]:
            config = module["get_config"](variant)
            yield pytest.param(path, config, id=f"{path.stem}:{variant}")


VARIANTS = list(_variants())


def _leaves(config, prefix=""):
    for name, value in config.items():
        if hasattr(value, "items") and name != "flow_options":
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@pytest.mark.parametrize(("path", "config"), VARIANTS)
def test_keys_are_the_arguments_of_their_functions(path, config):
    kind = path.stem.split("_")[0]
    expected = set(READ_BY_NAME[kind])
    for section, (function, given) in SECTIONS[kind].items():
        names = set(inspect.signature(function).parameters) - set(given.split())
        expected |= {f"{section}.{name}" for name in names}
    assert set(_leaves(config)) == expected


@pytest.mark.parametrize(("path", "config"), VARIANTS)
def test_flow_options_are_arguments_of_the_flow(path, config):
    if not path.stem.startswith("prior"):
        return
    flow = models.FLOWS[config.prior.flow]
    names = set(inspect.signature(flow).parameters) - {"image_shape", "seed", "dtype"}
    assert set(config.prior.flow_options) == names


TOOLS = CONFIGS[0].parent.parent / "tools"
ABLATION = runpy.run_path(str(TOOLS / "ablate_prior.py"))
OBJECTIVE = runpy.run_path(str(TOOLS / "ablate_objective.py"))


@pytest.mark.parametrize("name", ABLATION["VARIANTS"])
def test_every_variant_of_the_ablation_is_another_prior(name):
    file, changes, baseline = ABLATION["VARIANTS"][name]
    module = runpy.run_path(str(CONFIGS[0].parent / f"{file}.py"))
    config, unchanged = module["get_config"]("smoke"), module["get_config"]("smoke")
    config.update_from_flattened_dict(changes)
    assert (config != unchanged) == bool(changes)
    models.FlowPrior(**config.prior)
    assert baseline in ABLATION["VARIANTS"]


@pytest.mark.parametrize("name", OBJECTIVE["VARIANTS"])
def test_every_variant_of_the_objective_changes_what_it_says(name):
    changes, baseline = OBJECTIVE["VARIANTS"][name]
    get_config = runpy.run_path(str(OBJECTIVE["CONFIG"]))["get_config"]
    config, unchanged = get_config("from_scratch"), get_config("from_scratch")
    config.objective.update_from_flattened_dict(changes)
    assert (config != unchanged) == bool(changes)
    assert config.start.training.num_steps == 0  # No synthetic noise.
    assert baseline in OBJECTIVE["VARIANTS"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_opens_with_what_it_is_and_its_command(path):
    module = runpy.run_path(str(path))
    script = f"train_{path.stem.split('_')[0]}"
    assert f"{script} --config configs/{path.name}" in module["__doc__"]
    for variant in module["VARIANTS"]:
        assert variant in module["__doc__"]
    with pytest.raises(ValueError, match="Received: variant='other'"):
        module["get_config"]("other")


def test_the_sections_are_those_that_the_scripts_name():
    for name, script in (
        ("prior", train_prior.train_prior),
        ("denoiser", train_denoiser.train_denoiser),
    ):
        for section in SECTIONS[name]:
            for part in section.split("."):
                assert f"`{part}`" in script.__doc__


def test_unknown_keys_fail():
    config = runpy.run_path(str(CONFIGS[0]))["get_config"]("smoke")
    with pytest.raises(AttributeError):
        config.unknown = 1
