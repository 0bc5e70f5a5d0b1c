"""The exceptions that people see: bad input, and questions without an answer."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Input that cannot be used.

    The message names the field, the value and the remedy. The command line prints it and exits
    with 2.
    """


class NoSolution(Exception):
    """A search in which nothing qualifies.

    The message says what would qualify. The command line prints it and exits with 3.
    """


def unknown(what: str, name: object, known: Iterable[str]) -> InputError:
    """An `InputError` for a name that is not known, with the nearest known ones.

    Where no known name is near and at most 40 are known, the message lists all of them.

    Arguments:
        what: what the name should be the name of, such as "system"; it begins the message.
        name: the name that is not known.
        known: all names that are.
    """
    names = sorted(known)
    folded = {candidate.lower(): candidate for candidate in names}
    near = [
        folded[key] for key in difflib.get_close_matches(str(name).lower(), folded, n=4, cutoff=0.5)
    ]
    contained = [candidate for candidate in names if str(name).lower() in candidate.lower()]
    suggestions = list(dict.fromkeys([*near, *contained]))[:6]
    if not suggestions and len(names) <= 40:
        return InputError(f"{what}: {name!r} is not known; known are {', '.join(names)}")
    hint = f"did you mean {' or '.join(suggestions)}?" if suggestions else f"{len(names)} are known"
    return InputError(f"{what}: {name!r} is not known; {hint}")
