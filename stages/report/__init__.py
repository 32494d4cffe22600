"""report: everything -> a static page that opens from disk, with no network."""

from stages.report.stage import REPORT, ReportParams

__all__ = ["REPORT", "ReportParams"]
