"""Measurements in the layouts of other projects, and in a plain one: files are known by their beginning, not by their folder."""
