"""Every key of every configuration is an argument of the function that it goes to."""

from __future__ import annotations

import dataclasses
import inspect
import runpy
import sys
from pathlib import Path

import pytest

from tfflowdn import data, flows, models, noise, sections, stages, training
from tfflowdn.noise import GenericNoise, estimate_calm_noise, estimate_noise

sys.path.append(str(Path(__file__).parent.parent / "tools"))
CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.py"))
# Arguments that the trainings add to a section.
FIT_GIVEN = (
    "model batches directory validation monitor save_best callbacks batch_names stop "
    "loss metrics text"
)
SECTIONS = {
    "prior": {
        "prior": (models.FlowPrior, "trainable pixel_range kwargs"),
        "clean": (data.open_source, "channels together"),
        "validation": (data.open_source, "channels together pixel_range"),
        "crops": (data.RandomCrops, "source crop_size"),
        "training": (training.fit, FIT_GIVEN),
    },
    "denoiser": {
        "noisy": (data.open_source, "channels together"),
        "clean": (data.open_source, "channels together"),
        "network": (models.ResNetDenoiser, "channels pixel_range kwargs"),
        "start.crops": (data.RandomCrops, "source"),
        "start.noise": (GenericNoise, ""),
        "start.loss": (stages.weighted_pairs, "pairs"),
        "start.training": (training.fit, FIT_GIVEN),
        "noise2void.crops": (data.RandomCrops, "source"),
        "noise2void.loss": (models.Noise2Void, "network kwargs"),
        "noise2void.training": (training.fit, FIT_GIVEN),
        "objective.crops": (data.RandomCrops, "source"),
        "objective.rehearsal.crops": (data.RandomCrops, "source"),
        "objective.rehearsal.noise": (GenericNoise, ""),
        "objective.loss": (
            models.UnpairedDenoiser,
            "network prior noise reference kwargs",
        ),
        "objective.training": (training.fit, FIT_GIVEN),
        "distill.crops": (data.RandomCrops, "source"),
        "distill.noise": (noise.NoiseModel.call, "self signal seed"),
        "distill.loss": (stages.weighted_pairs, "pairs"),
        "distill.training": (training.fit, FIT_GIVEN),
        "recorrupt.crops": (data.RandomCrops, "source"),
        "recorrupt.rehearsal.crops": (data.RandomCrops, "source"),
        "recorrupt.noise": (noise.NoiseModel.call, "self signal seed"),
        "recorrupt.loss": (stages.recorrupted_pairs, "crops noise noise_seed"),
        "recorrupt.training": (training.fit, FIT_GIVEN),
    },
    "noise": {
        "noisy": (data.open_source, "channels together"),
        "clean": (data.open_source, "channels together"),
        "residuals": (
            estimate_noise,
            "denoise noisy clean model_options callbacks",
        ),
        "calm": (estimate_calm_noise, "noisy model_options callbacks"),
        "model": (noise.NoiseModel, "channels num_pictures kwargs"),
    },
    "uncertainty": {
        "clean": (data.open_source, "channels together"),
        "validation": (data.open_source, "channels together"),
        "uncertainty": (models.UncertaintyNetwork, "channels denoiser kwargs"),
        "crops": (data.RandomCrops, "source"),
        "generic_noise": (GenericNoise, ""),
        "training": (training.fit, FIT_GIVEN),
    },
}
READ_BY_NAME = {
    "prior": set(),
    "denoiser": {
        "prior",
        "denoiser",
        "noise",
        "validation.noisy",
        "validation.clean",
        "network.kind",
    },
    "noise": {"denoiser", "reference", "evidence", "max_pictures", "max_side"},
    "uncertainty": {"denoiser", "noise", "level_range"},
}


def _variants():
    for path in CONFIGS:
        module = runpy.run_path(str(path))
        for variant in module["get_config"].variants:
            config = module["get_config"](variant)
            yield pytest.param(path, config, id=f"{path.stem}:{variant}")


VARIANTS = list(_variants())


def _leaves(config, prefix=""):
    for name, value in config.items():
        if hasattr(value, "items") and name != "flow_options":
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _has(config, section):
    """Whether a configuration has a section; only stages may be absent."""
    first, *rest = section.split(".")
    if first in stages.STAGES and first not in config:
        return False
    return not rest or rest[0] != "rehearsal" or rest[0] in config[first]


@pytest.mark.parametrize(("path", "config"), VARIANTS)
def test_keys_are_the_arguments_of_their_functions(path, config):
    kind = path.stem.split("_")[0]
    expected = set(READ_BY_NAME[kind])
    for section, (function, given) in SECTIONS[kind].items():
        if not _has(config, section):
            continue
        names = set(inspect.signature(function).parameters) - set(given.split())
        expected |= {f"{section}.{name}" for name in names}
    if "objective" in config:
        expected.add("objective.data_term")
    assert set(_leaves(config)) == expected


@pytest.mark.parametrize(("path", "config"), VARIANTS)
def test_flow_options_are_arguments_of_the_flow(path, config):
    if not path.stem.startswith("prior"):
        return
    names = {field.name for field in dataclasses.fields(flows.FlowOptions)}
    assert set(config.prior.flow_options) <= names


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
    get_config = runpy.run_path(str(CONFIGS[0].parent / "denoiser_resnet.py"))[
        "get_config"
    ]
    config, unchanged = get_config("from_scratch"), get_config("from_scratch")
    config.objective.update_from_flattened_dict(changes)
    assert (config != unchanged) == bool(changes)
    assert "start" not in config  # No synthetic noise.
    assert baseline in OBJECTIVE["VARIANTS"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_opens_with_what_it_is_and_its_command(path):
    module = runpy.run_path(str(path))
    script = f"train_{path.stem.split('_')[0]}"
    assert f"{script} --config {path.stem}" in module["__doc__"]
    for variant in module["get_config"].variants:
        assert variant in module["__doc__"]
    with pytest.raises(ValueError, match="variant must be.*Received: variant='other'"):
        module["get_config"]("other")


def test_the_docstrings_name_the_sections():
    docs = [stages.train_prior.__doc__, stages.train_denoiser.__doc__]
    docs += [stage.__doc__ for stage in stages.STAGES.values()]
    for kind in ("prior", "denoiser"):
        for section in SECTIONS[kind]:
            name = section.split(".")[-1]
            assert name in stages.STAGES or any(f"`{name}`" in doc for doc in docs)


def test_the_stages_of_each_variant():
    module = runpy.run_path(str(CONFIGS[0].parent / "denoiser_resnet.py"))
    for variant in module["get_config"].variants:
        config = module["get_config"](variant)
        names = [name for name in stages.STAGES if name in config]
        assert names == [s for s in stages.STAGES if variant in module["STAGES"][s]]
        assert names


def test_sections_share_no_values():
    config = sections.denoiser_config()
    config.clean.spec, config.noisy.data_dir = "clean", "noisy"
    config.prior = "prior.keras"
    assert config.noisy.spec is config.clean.data_dir is config.denoiser is None


def test_a_file_outside_of_the_package_can_use_the_sections(tmp_path):
    path = tmp_path / "mine.py"
    source = CONFIGS[0].parent / "prior_glow.py"
    path.write_text(source.read_text().replace("num_levels=", "num_levels=1 + "))
    ours, mine = (runpy.run_path(str(file))["get_config"]() for file in (source, path))
    levels = [config.prior.flow_options.num_levels for config in (ours, mine)]
    assert levels[1] == levels[0] + 1


def test_unknown_keys_fail():
    config = runpy.run_path(str(CONFIGS[0]))["get_config"]("smoke")
    with pytest.raises(AttributeError):
        config.unknown = 1
