"""Reports of runs: one HTML file that needs no network."""

from __future__ import annotations

from tfflowdn.report.html import Curve, Report, Row, write_report
from tfflowdn.report.images import data_url

__all__ = ["Curve", "Report", "Row", "data_url", "write_report"]
