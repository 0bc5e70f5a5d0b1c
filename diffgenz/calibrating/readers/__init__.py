"""Readers of measurements, in the layouts of other projects and in a plain one.

A file is known by how it begins, not by its folder; `registry` lists the readers.
"""
