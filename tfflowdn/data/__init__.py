"""Pictures in files, collections of them, input pipelines, and noise."""

from tfflowdn.data.crops import RandomCrops, image_batches
from tfflowdn.data.image_source import ImageSource
from tfflowdn.data.images import (
    IMAGE_SUFFIXES,
    ImageHeader,
    ImageReadError,
    Metadata,
    from_float,
    image_header,
    is_stack_or_large,
    map_pages,
    open_array,
    read_image,
    read_metadata,
    save_array,
    split_alpha,
    to_float,
    write_image,
)
from tfflowdn.data.noise import NOISES, GenericNoise, add_noise
from tfflowdn.data.pairs import pair_sources, paired_images
from tfflowdn.data.sources import FileSource, open_source
from tfflowdn.data.tfds_source import TfdsSource

__all__ = [
    "IMAGE_SUFFIXES",
    "NOISES",
    "FileSource",
    "GenericNoise",
    "ImageHeader",
    "ImageReadError",
    "ImageSource",
    "Metadata",
    "RandomCrops",
    "TfdsSource",
    "add_noise",
    "from_float",
    "image_batches",
    "image_header",
    "is_stack_or_large",
    "map_pages",
    "open_array",
    "open_source",
    "pair_sources",
    "paired_images",
    "read_image",
    "read_metadata",
    "save_array",
    "split_alpha",
    "to_float",
    "write_image",
]
