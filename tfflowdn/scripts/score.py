"""Scores the similarity of pictures to the training pictures of a prior.

    score PICTURES --prior PRIOR.keras [--maps DIR] [--output JSON]

prints the bits/dim of each picture, of any size, with the dequantization noise of the
prior; a lower value is more like the training pictures. With --maps, DIR gets a PNG for
each picture: a heat map of the bits/dim around each pixel. All maps have one scale.

Example:
    score pictures --prior prior_gray --maps maps
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from absl import flags, logging

import tfflowdn
from tfflowdn.scripts import command

__all__ = ["main", "score"]

FLAGS = flags.FLAGS


def score(
    pictures: str,
    prior: str,
    maps: str | None = None,
    axes: str | None = None,
    percentiles_by: str = "file",
) -> dict:
    """Scores the pictures of a source, and draws their likelihood maps.

    Args:
      pictures: Folder, glob or file of pictures, with the number of channels and the
        range of the training pictures.
      prior: Path of a FlowPrior's `.keras` file, or its name.
      maps: Folder for a PNG of each picture, made if it is absent. The colors go
        from black at the lowest bits/dim of all, over red and yellow, to white at the
        highest.
      axes: The axes of arrays and stacks, see `data.open_source`.
      percentiles_by: "file" or "page", see `data.open_source`.

    Returns:
      `mean` and, by name, `pictures`: dictionaries of `bits_per_dim` and, with maps,
      `highest`, the highest bits/dim of the map.

    Raises:
      ValueError: If there is no such prior, or a picture does not fit it.
    """
    model = tfflowdn.load_prior(prior)
    source = tfflowdn.data.open_source(
        pictures,
        channels=model.channels,
        pixel_range=model.pixel_range,
        axes=axes,
        percentiles_by=percentiles_by,
    )
    source.verify()
    rows, heat = {}, {}
    for name, picture in zip(source.names, source.dataset(), strict=True):
        picture = tfflowdn.data.to_float(picture.numpy())
        noisy = model.dequantize(picture[np.newaxis], [model.seed, -1])
        try:
            rows[name] = {"bits_per_dim": float(model.bits_per_dim(noisy)[0])}
            if maps:
                heat[name] = model.likelihood_map(picture)
                rows[name]["highest"] = float(heat[name].max())
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    if maps:
        _write_maps(heat, Path(maps))
    return {"mean": tfflowdn.inference.summarize(list(rows.values())), "pictures": rows}


def _write_maps(heat, folder):
    low = min(values.min() for values in heat.values())
    high = max(values.max() for values in heat.values())
    paths = _map_paths(list(heat), folder)
    for path, values in zip(paths, heat.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        tfflowdn.data.write_image(path, _colors((values - low) / max(high - low, 1e-6)))
    logging.info("Maps are in %s: black %.2f, white %.2f bits/dim.", folder, low, high)


def _map_paths(names, folder):
    """Returns a .png for each name; a_tif.png and a_png.png for a.tif and a.png."""
    stems = [Path(name).with_suffix("") for name in names]
    twice = {stem for stem in stems if stems.count(stem) > 1}
    return [
        folder / f"{stem}_{Path(name).suffix[1:]}.png"
        if stem in twice
        else folder / f"{stem}.png"
        for name, stem in zip(names, stems, strict=True)
    ]


def _colors(level):
    """Returns black, red, yellow, white, uint8 [H, W, 3], for levels from 0 to 1."""
    ramp = 3 * level[..., np.newaxis] - np.arange(3)
    return tfflowdn.data.from_float(np.float32(np.clip(ramp, 0, 1)), np.uint8)


def _main(argv):
    stack = {"axes": FLAGS.axes, "percentiles_by": FLAGS.percentiles_by}
    command.publish(score(argv[1], FLAGS.prior, FLAGS.maps, **stack), FLAGS.output)


def main() -> None:
    """Runs the command."""
    flags.DEFINE_string(
        "prior", None, "The prior: a .keras file or a name, such as prior_gray."
    )
    flags.DEFINE_string("maps", None, "Folder for the heat maps.")
    command.define_stack_flags()
    flags.DEFINE_string("output", None, "JSON file to write.")
    command.require("prior")
    command.run(_main, arguments="PICTURES")


if __name__ == "__main__":
    main()
