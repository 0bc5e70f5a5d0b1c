"""What deployments must keep to, and what to say of those that do not."""

from typing import NamedTuple

import numpy as np

from diffgenz.inference.metrics import METRICS


class Limits(NamedTuple):
    """What deployments must keep to.

    Arguments:
        times: s until the first token and between tokens of each, by target.
        fits: whether each fits in memory.
        targets: s at most, by name; None for any.
    """

    times: dict[str, np.ndarray]
    fits: np.ndarray
    targets: dict[str, float | None]

    @property
    def met(self) -> np.ndarray:
        """Which deployments fit and meet the targets."""
        met = self.fits.copy()
        for name, target in self.targets.items():
            if target is not None:
                met &= self.times[name] <= target
        return met

    def closest(self) -> str:
        """That nothing meets the targets, and what comes closest to each of them.

        For each target it is the lowest time of the deployments that meet the other; where none
        does, the lowest time of that other one.
        """
        parts = []
        for name, target in self.targets.items():
            if target is None:
                continue
            other = next(each for each in self.targets if each != name)
            limit = self.targets[other]
            within = self.fits if limit is None else self.fits & (self.times[other] <= limit)
            if within.any():
                best = self.times[name][within].min()
                given = "" if limit is None else f" at a {other} of {limit * 1e3:g} ms"
                parts.append(
                    f"the lowest {name} is {best * 1e3:.3g} ms{given}, "
                    f"{target * 1e3:g} was asked for"
                )
            else:
                best, asked = self.times[other][self.fits].min(), 1e3 * (limit or 0)
                parts.append(
                    f"the lowest {other} at all is {best * 1e3:.3g} ms, {asked:g} was asked for"
                )
        distinct = "; ".join(dict.fromkeys(parts))
        return f"{int(self.fits.sum()):,} deployments fit, none meets the targets: {distinct}"

    def at(
        self,
        number: int | None,
        batches: np.ndarray,
        columns: dict[str, np.ndarray],
        sort: str,
    ) -> str:
        """What becomes of a deployment, for people; "" where there is none.

        Arguments:
            number: its place in the columns.
            batches: requests in flight of each deployment.
            columns: metrics of each deployment.
            sort: the metric that says which is best.
        """
        if number is None:
            return ""
        start = f"with {batches[number]:g} requests"
        if not self.fits[number]:
            memory = columns["memory.total"][number] / 1e9
            return f"{start} it does not fit ({memory:.1f} GB)"
        missed = [
            f"{name.upper()} is {_rounded(1e3 * float(self.times[name][number]))} ms"
            for name, target in self.targets.items()
            if target is not None and self.times[name][number] > target
        ]
        metric = METRICS[sort]
        value = f"{_rounded(metric.factor * float(columns[sort][number]))} {metric.label}"
        return f"{start} {' and '.join(missed)}" if missed else f"{start} it reaches {value}"


def _rounded(value: float) -> str:
    """A number to three digits, none of those before the point left out."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
