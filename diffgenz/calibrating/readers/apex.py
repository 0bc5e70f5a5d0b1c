"""Collectives as APEX measured them (microsoft/apex_plus, MIT), one file for each.

time(us), and size(kb) of the whole tensor in units of 1024 B, are both rounded down. sendrecv is
left out: no family here is a transfer between two ranks.
"""

from pathlib import Path

import numpy as np

from diffgenz.calibrating.readers.collective_names import family_of
from diffgenz.calibrating.readers.frames import frame_of, named, numbers
from diffgenz.calibrating.readers.reader import Layout, has
from diffgenz.calibrating.samples import Samples
from diffgenz.kernels.shapes import CollectiveShape

COLUMNS = ("num_nodes", "num_gpus_per_node", "dtype", "size(kb)", "time(us)")
"""Columns that tell the layout."""

FORMATS = {"half": "fp16", "float": "fp32"}
"""Our formats by its dtype."""


def collectives(path: Path) -> list[Samples]:
    """The samples of one collective; the name of the file says which."""
    family = family_of(path.stem, path)
    if family is None:
        return []
    frame = frame_of(path)
    formats = named(frame, "dtype", FORMATS, path)
    nodes, ranks, size, us = numbers(
        frame, ("num_nodes", "num_gpus_per_node", "size(kb)", "time(us)"), path
    )
    found = []
    for format in np.unique(formats):
        at = formats == format
        shape = CollectiveShape(ranks[at], size[at] * 1024)
        samples = Samples.of(family, str(format), "apex", "nccl", shape, us[at] * 1e-6)
        near = samples.only(nodes[at] == 1, "between nodes")
        found.append(near.only(near.shape.volume > 0, "less than 1 kB, rounded to nothing"))
    return found


LAYOUTS = (Layout("APEX (collectives)", has(*COLUMNS), collectives),)
