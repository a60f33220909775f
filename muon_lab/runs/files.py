"""Old names of what stands in ``record.py``; this file goes as soon as nothing imports it."""

from muon_lab.runs.record import check_writable
from muon_lab.runs.record import write_atomically as whole_file

__all__ = ["check_writable", "whole_file"]
