"""Sweeps estimate, filter and reduce a numbered space of configurations on the device.

The unit of work is a pure function of (space, reductions, start, stop) whose result is small and
merges associatively. Devices, machines, interruption and resumption all follow from that.

From below: `sobol` numbers points of the unit cube, `axes` says which values a number takes,
`slots` sorts axes by how they are decoded, `decoder` turns grid positions and points into numbers,
`space` maps an index to a configuration, `program` estimates batches of them, `reductions` keep
what was asked for, `engine` reduces ranges, `sweep` runs them with checkpoints, `findings` shows
what came of it.
"""

from diffgenz.studies.sweep import axes as axes
