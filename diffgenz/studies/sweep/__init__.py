"""Sweeps: a space of configurations, numbered; estimated, filtered and reduced on the device, range by range.

The unit of work is a pure function of (space, reductions, start, stop) whose result is small and merges associatively. Devices, machines,
interruption and resumption all follow from that. From below: `sobol` numbers points of the unit cube, `axes` maps them and grid positions to
numbers, `space` maps an index to a configuration, `program` estimates batches of them on the device, `reductions` keeps what was asked for.
"""

from diffgenz.studies.sweep import axes as axes
