"""Scores pictures by a prior: how much do they look like those it has learned?

    score PICTURES --prior PRIOR.keras [--maps DIR] [--output JSON]

prints the bits/dim of each picture, of any size, with the prior's dequantisation
noise; lower is more like them. With --maps, DIR gets a heat map of the bits/dim around
each pixel, a PNG for each picture, all on one scale.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from absl import flags, logging

from tfflowdn import data, inference
from tfflowdn.scripts import command

__all__ = ["main", "score"]

FLAGS = flags.FLAGS


def score(pictures: str, prior: str, maps: str | None = None) -> dict:
    """Scores the pictures of a source, and draws their likelihood maps.

    Args:
      pictures: Folder, glob or file of pictures, of the prior's number of channels;
        their range is that of the pictures it learned from.
      prior: Path of a FlowPrior's `.keras` file.
      maps: Folder for a PNG of each picture, from black at the lowest over red and
        yellow to white at the highest bits/dim of all; made if it is absent.

    Returns:
      `mean` and, by name, `pictures`: dictionaries of `bits_per_dim` and, with maps,
      `highest`, that of the map.

    Raises:
      ValueError: If the prior is none, or a picture does not fit it.
    """
    model = inference.load_prior(prior)
    source = data.open_source(
        pictures, channels=model.channels, pixel_range=model.pixel_range
    )
    source.verify()
    rows, heat = {}, {}
    for name, picture in zip(source.names, source.dataset(), strict=True):
        picture = data.to_float(picture.numpy())
        noisy = model.dequantize(picture[np.newaxis], [model.seed, -1])
        rows[name] = {"bits_per_dim": float(model.bits_per_dim(noisy)[0])}
        if maps:
            heat[name] = model.likelihood_map(picture)
            rows[name]["highest"] = float(heat[name].max())
    if maps:
        _write_maps(heat, Path(maps))
    return {"mean": inference.summarize(list(rows.values())), "pictures": rows}


def _write_maps(heat, folder):
    low = min(values.min() for values in heat.values())
    high = max(values.max() for values in heat.values())
    for name, values in heat.items():
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        data.write_image(path, _colours((values - low) / max(high - low, 1e-6)))
    logging.info("Maps are in %s: black %.2f, white %.2f bits/dim.", folder, low, high)


def _colours(level):
    """Returns black, red, yellow, white, uint8 [H, W, 3], for levels from 0 to 1."""
    ramp = 3 * level[..., np.newaxis] - np.arange(3)
    return data.from_float(np.float32(np.clip(ramp, 0, 1)), np.uint8)


def _main(argv):
    if len(argv) != 2:
        raise ValueError(f"PICTURES must be one argument. Received: {argv[1:]}.")
    command.publish(score(argv[1], FLAGS.prior, FLAGS.maps), FLAGS.output)


def main():
    """Runs the script."""
    flags.DEFINE_string("prior", None, "The prior, a .keras file.")
    flags.DEFINE_string("maps", None, "Folder for the heat maps; none: no maps.")
    flags.DEFINE_string("output", None, "JSON file to write.")
    flags.mark_flags_as_required(["prior"])
    command.run(_main)


if __name__ == "__main__":
    main()
