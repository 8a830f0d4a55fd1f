"""Reports of runs: one HTML file that needs no network."""

from __future__ import annotations

from tfflowdn.report.html import Curve, Report, Row, write_report
from tfflowdn.report.images import data_url
from tfflowdn.report.noise import Units, noise_pictures, noise_plots
from tfflowdn.report.training import config_facts, config_markdown, history_plots

__all__ = [
    "Curve",
    "Report",
    "Row",
    "Units",
    "config_facts",
    "config_markdown",
    "data_url",
    "history_plots",
    "noise_pictures",
    "noise_plots",
    "write_report",
]
