"""Pictures in files, collections of them, and input pipelines."""

from __future__ import annotations

from tfflowdn.data.axes import split_pictures
from tfflowdn.data.clean_photographs import PHOTOGRAPHS, photographs
from tfflowdn.data.crops import RandomCrops, image_batches
from tfflowdn.data.display import shown_colors
from tfflowdn.data.formats import Picture
from tfflowdn.data.gaps import (
    as_float64,
    count_gaps,
    cut_gaps,
    fill_gaps,
    find_gaps,
    mark_gaps,
    present_values,
    restore_gaps,
)
from tfflowdn.data.image_source import ImageSource
from tfflowdn.data.images import (
    IMAGE_SUFFIXES,
    ImageHeader,
    ImageReadError,
    Metadata,
    image_header,
    is_stack_or_large,
    map_array,
    map_pages,
    num_pages,
    open_picture,
    pixels_of,
    read_image,
    read_metadata,
    read_pages,
    result_name,
    write_image,
)
from tfflowdn.data.listing import (
    PICTURE_SUFFIXES,
    check_folder,
    is_picture,
    list_pictures,
    log_omitted,
)
from tfflowdn.data.memory import check_fits, free_memory
from tfflowdn.data.pairs import pair_sources, paired_images
from tfflowdn.data.picture_pool import PicturePool
from tfflowdn.data.pixel_range import (
    check_finite,
    check_range,
    dtype_limits,
    find_limits,
    from_float,
    has_limits,
    normalize,
    split_alpha,
    to_float,
    to_unit,
)
from tfflowdn.data.softness import matching_zoom_range
from tfflowdn.data.sources import FileSource, open_source
from tfflowdn.data.tfds_source import TfdsSource

__all__ = [
    "IMAGE_SUFFIXES",
    "PHOTOGRAPHS",
    "PICTURE_SUFFIXES",
    "FileSource",
    "ImageHeader",
    "ImageReadError",
    "ImageSource",
    "Metadata",
    "Picture",
    "PicturePool",
    "RandomCrops",
    "TfdsSource",
    "as_float64",
    "check_finite",
    "check_fits",
    "check_folder",
    "check_range",
    "count_gaps",
    "cut_gaps",
    "dtype_limits",
    "fill_gaps",
    "find_gaps",
    "find_limits",
    "free_memory",
    "from_float",
    "has_limits",
    "image_batches",
    "image_header",
    "is_stack_or_large",
    "is_picture",
    "list_pictures",
    "log_omitted",
    "map_array",
    "map_pages",
    "mark_gaps",
    "matching_zoom_range",
    "normalize",
    "num_pages",
    "open_picture",
    "open_source",
    "pair_sources",
    "paired_images",
    "photographs",
    "pixels_of",
    "present_values",
    "read_image",
    "read_metadata",
    "read_pages",
    "restore_gaps",
    "result_name",
    "shown_colors",
    "split_alpha",
    "split_pictures",
    "to_float",
    "to_unit",
    "write_image",
]
