"""Packaging of tfflowdn."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (HERE / "tfflowdn" / "__init__.py").read_text("utf-8")
).group(1)
# Where an installed package has the folders that lie next to it in a clone.
MODELS, CONFIGS = "tfflowdn.saved_models", "tfflowdn.configs"
PHOTOGRAPHS = "tfflowdn.data"  # The package with the folder of the photographs.
SCRIPTS = (
    "adapt",
    "train_prior",
    "train_denoiser",
    "train_noise",
    "train_uncertainty",
    "denoise",
    "deep_image_prior",
    "evaluate",
    "export_model",
    "score",
    "denoise_beam",
    "measure_softness",
    "prepare_tfds",
    "denoise_client",
    "demo",
)
BEAM = ["apache-beam>=2.65"]
DOCS = [  # the site, and the notebook that a test runs
    "ipykernel>=6.29",
    "mkdocs-material>=9.5",
    "mkdocstrings[python]>=0.27",
    "nbclient>=0.10",
    "nbformat>=5.10",
]
FORMATS = {  # Libraries of file formats, each imported when a file needs it.
    "astronomy": ["astropy>=6.1"],  # FITS
    "medical": ["pydicom>=3.0"],  # DICOM
    "microscopy": [
        "mrcfile>=1.5",  # MRC
        "nd2>=0.10",
        "pylibCZIrw>=5.0",  # CZI
        "zarr>=3.0",
    ],
    "photography": ["pillow-heif>=1.0"],  # HEIC
    "raw": ["rawpy>=0.21"],
}
DEMO = ["gradio>=6.0"]  # The page to try the denoisers.
ONNX = ["onnx>=1.17", "tf2onnx>=1.16.1"]
SERVING = ["tensorflow-serving-api>=2.19"]  # Requests of the client, also by gRPC.

setup(
    name="tfflowdn",
    version=VERSION,
    description="Image denoising from noisy pictures and unrelated clean ones",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=[*find_packages(include=["tfflowdn", "tfflowdn.*"]), MODELS, CONFIGS],
    package_dir={MODELS: "saved_models", CONFIGS: "configs"},
    package_data={
        MODELS: ["*.keras", "*.md"],
        PHOTOGRAPHS: ["photographs/*"],
        "tfflowdn.report": ["templates/*"],
    },
    python_requires=">=3.11,<3.14",
    install_requires=[
        "absl-py>=2.1",
        "filelock>=3.12",
        "imagecodecs>=2024.1",  # tifffile needs it for compressed pages
        "jinja2>=3.1",  # the template of the reports
        "keras>=3.12,<3.16",  # the optimizers and devices.py use private names
        "matplotlib>=3.9",  # the curves of the noise
        "ml_collections>=1.0",
        "ml_dtypes>=0.5",  # bfloat16 in .npy files; a dependency of TensorFlow
        "numpy>=2.0",
        "pillow>=11.3",  # older ones lose parts of EXIF
        "psutil>=5.9",
        "setuptools",  # tensorflow-probability imports distutils, its shim
        "tensorboard>=2.20",
        "tensorflow>=2.21,<2.22",
        "tensorflow-datasets>=4.9.7",
        "tensorflow-probability>=0.25,<0.26",
        "tf-keras>=2.21,<2.22",
        "tifffile>=2024.1",
        "tqdm>=4.66",
    ],
    extras_require={
        **FORMATS,
        "beam": BEAM,
        "demo": DEMO,
        "docs": DOCS,
        "onnx": ONNX,
        "quickstart": ["scikit-image>=0.25"],  # for the photographs in its wheel
        "serving": SERVING,
        "test": [
            *BEAM,
            *DOCS,
            *(library for names in FORMATS.values() for library in names),
            *ONNX,
            *SERVING,
            "ai-edge-litert>=2.0",
            "onnxruntime>=1.20",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.9",
            "scikit-image>=0.25",
        ],
    },
    entry_points={
        "console_scripts": [f"{name}=tfflowdn.scripts.{name}:main" for name in SCRIPTS]
    },
)
