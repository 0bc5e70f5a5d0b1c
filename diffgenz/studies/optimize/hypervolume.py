"""How much of the space of objectives a front beats."""

import numpy as np

from diffgenz.studies.optimize.quadratic import Numbers


def hypervolume(points: Numbers, reference: Numbers) -> float:
    """How much of the space up to a reference some points beat; all is minimised.

    It is cut into slices along the last objective: exact, and quick for two or three objectives.

    Arguments:
        points: of shape (count, objectives).
        reference: of shape (objectives,).
    """
    inside = points[(points < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    if inside.shape[1] == 1:
        return float(reference[0] - inside.min())
    inside = inside[np.argsort(inside[:, -1])]
    ends = np.append(inside[1:, -1], reference[-1])
    if inside.shape[1] == 2:
        widths = reference[0] - np.minimum.accumulate(inside[:, 0])
        return float(widths @ (ends - inside[:, 1]))
    return sum(
        float(end - row[-1]) * hypervolume(inside[: place + 1, :-1], reference[:-1])
        for place, (row, end) in enumerate(zip(inside, ends, strict=True))
        if end > row[-1]
    )
