"""What each axis of a space sets, so that nothing is set twice."""

from diffgenz.core.errors import InputError
from diffgenz.core.leaves import Path, name_of


class Claims:
    """What the axes set so far."""

    def __init__(self):
        self._taken: list[tuple[str, Path, bool]] = []

    def add(self, axis: str, paths: tuple[Path, ...], *, number: bool) -> None:
        """Note what an axis sets.

        Nothing may be set twice, with one exception: a number may be set inside a record that
        another axis chooses. It is then set in each of the options.

        Arguments:
            axis: its name.
            paths: the numbers or records that it sets.
            number: whether it sets numbers one by one; else it chooses among records.

        Raises:
            InputError: another axis sets one of them already.
        """
        for path in paths:
            for other, taken, other_is_number in self._taken:
                shared = min(len(path), len(taken))
                inside = number and len(path) > shared
                around = other_is_number and len(taken) > shared
                if path[:shared] == taken[:shared] and not (inside or around):
                    raise InputError(
                        f"axis {axis}: {name_of(path)} is set by the axis {other} already; "
                        "drop one of them"
                    )
        self._taken += [(axis, path, number) for path in paths]
