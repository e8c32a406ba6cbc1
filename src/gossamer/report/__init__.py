"""One HTML page from one run folder: what was reached, what it cost, what the network looks like."""

from gossamer.report.page import write_report
from gossamer.report.read import read_runs
from gossamer.report.records import Run

__all__ = ["Run", "read_runs", "write_report"]
