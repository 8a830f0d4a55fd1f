"""Exported models: SavedModels for TensorFlow Serving, LiteRT and ONNX files."""

from tfflowdn.serving.export import FORMATS, export_model
from tfflowdn.serving.graph import ServedDenoiser

__all__ = ["FORMATS", "ServedDenoiser", "export_model"]
