"""`load_study`: an optimization as a file, STUDY.toml. docs/codesign.md explains every key."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from diffgenz.core.errors import InputError
from diffgenz.core.files import read_toml
from diffgenz.core.sections import Section, said_of
from diffgenz.inference.metrics import METRICS
from diffgenz.scenario.mix import Mix, parts_of
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.scenario import Scenario
from diffgenz.studies.optimize.distributions import distribution_of
from diffgenz.studies.optimize.draws import DRAWS, Uncertainty, unit_of_uncertain
from diffgenz.studies.optimize.front import POINTS, Front, front
from diffgenz.studies.optimize.improvement import Bottleneck, Worth, bottlenecks, worth_of
from diffgenz.studies.optimize.lanes import Progress
from diffgenz.studies.optimize.optimize import STARTS, optimize
from diffgenz.studies.optimize.optimum import Optimum
from diffgenz.studies.optimize.variables import Bounds
from diffgenz.studies.sweep.axes import Axis, Choice
from diffgenz.studies.sweep.axis_tables import axes_of, local, stated_plans
from diffgenz.studies.sweep.space_file import fit_of, formulas_of, question_of

_TOP = (
    "minimize",
    "maximize",
    "constraints",
    "plans",
    "choices",
    "starts",
    "draws",
    "seed",
    "scenario",
    "over",
    "derived",
    "quantities",
    "uncertain",
)


_FLAGS = ("calibration", "technology")
"""Keys of [uncertain] that are no numbers."""


class Study(NamedTuple):
    """What a file asks.

    Arguments:
        case: the question.
        system: the id or path of the accelerator that it begins with.
        over: the bounds of what is free.
        objective: the formula.
        maximise: whether more of it is better.
        subject_to: the formulas that must hold.
        derived, quantities: formulas by name.
        plans: the plans to try; None for all.
        choices: what is one of several, by name.
        starts, seed: of the solver.
        uncertain: what is not known for sure; None: nothing.
    """

    case: Scenario | Mix
    system: str
    over: Bounds
    objective: str
    maximise: bool
    subject_to: tuple[str, ...]
    derived: dict[str, str]
    quantities: dict[str, str]
    plans: tuple[Parallelism, ...] | None
    choices: dict[str, Axis]
    starts: int
    seed: int
    uncertain: Uncertainty | None

    @property
    def chooses_systems(self) -> bool:
        """Whether the accelerator is one of several."""
        axes = [axis for axis in self.choices.values() if isinstance(axis, Choice)]
        options = [option for axis in axes for option in axis.options.values()]
        return any(name.endswith("platform.accelerator") for each in options for name in each)

    def solve(self, progress: Callable[[str, int, int], None] | None = None) -> Optimum:
        """The optimum.

        Arguments:
            progress: as in `optimize`.

        Raises:
            InputError, NoSolution: as `optimize`.
        """
        return optimize(
            self.case,
            self.over,
            self.objective,
            maximise=self.maximise,
            subject_to=self.subject_to,
            derived=self.derived,
            quantities=self.quantities,
            plans=self.plans,
            choices=self.choices,
            uncertain=self.uncertain,
            starts=self.starts,
            seed=self.seed,
            progress=progress,
        )

    def worth(self, name: str, factor: float, progress: Progress | None = None) -> Worth:
        """What a multiple of a number is worth, as `worth_of`."""
        return worth_of(name, factor, **self._asked(progress))

    def bottlenecks(
        self, name: str, factor: float, progress: Progress | None = None
    ) -> tuple[Bottleneck, ...]:
        """Which limits are active as a number grows, as `bottlenecks`."""
        return bottlenecks(name, factor, **self._asked(progress))

    def _asked(self, progress: Progress | None) -> dict[str, Any]:
        """The arguments of `worth_of` and `bottlenecks` beside the number."""
        self._demand_certain()
        keys = ("case", "over", "objective", "maximise", "subject_to", "derived", "quantities")
        given = {key: getattr(self, key) for key in (*keys, "plans", "choices", "seed")}
        return given | {"progress": progress}

    def _demand_certain(self) -> None:
        if self.uncertain is not None:
            raise InputError(
                "uncertain: fronts, --worth and --path are of numbers that are known; leave "
                "[uncertain] and its statistics out"
            )

    def front(
        self,
        others: Sequence[str],
        points: int = POINTS,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Front:
        """What is possible between the objective and others.

        Arguments:
            others: metrics or formulas, as in `front`.
            points: limits of each of them.
            progress: as in `optimize`.

        Raises:
            InputError, NoSolution: as `front`.
        """
        self._demand_certain()
        return front(
            self.case,
            self.over,
            (self.objective, *others),
            more=(self.maximise, *(name in METRICS and METRICS[name].more for name in others)),
            subject_to=self.subject_to,
            derived=self.derived,
            quantities=self.quantities,
            plans=self.plans,
            choices=self.choices,
            points=points,
            seed=self.seed,
            progress=progress,
        )


def load_study(path: str | Path, *, fit: str | None = None) -> Study:
    """The optimization that a file describes.

    Arguments:
        path: of the file. Relative paths in it begin where it is.
        fit: what times the kernels, as in `load_platform`; None: what the file says.

    Raises:
        InputError: a file that cannot be read, an unknown key, a value that does not go there; it
            is named, with the remedy.
    """
    place = Path(path)
    top = Section(place.name, read_toml(place, "study"), _TOP)
    top.demand(
        scenario='model = "..." and system = "..."',
        over='memory_bandwidth = ["1 TB/s", "16 TB/s"]',
    )
    goals = [key for key in ("minimize", "maximize") if key in top.raw]
    if len(goals) != 1:
        raise InputError(
            f"{place.name}: has {' and '.join(goals) or 'no objective'}; write one of minimize and "
            'maximize, such as minimize = "cost_per_million_output_tokens"'
        )
    scenario = top.section("scenario")
    if fit is not None:
        scenario = Section(scenario.place, scenario.raw | {"fit": fit})
    question = question_of(scenario, place.parent)
    over = top.section("over")
    quantities = formulas_of(top.section("quantities"))
    choices = axes_of(
        top.section("choices"),
        question,
        place.parent,
        scenario.raw.get("generic", False) is True,
        fit_of(scenario, place.parent),
        quantities,
    )
    return Study(
        question,
        local(str(scenario.raw["system"]), place.parent),
        {name: _bounds(over, name) for name in over.raw},
        top.text(goals[0]),
        goals[0] == "maximize",
        top.texts("constraints") if "constraints" in top.raw else ("fits",),
        formulas_of(top.section("derived")),
        quantities,
        _plans(top, question),
        choices,
        top.whole("starts") if "starts" in top.raw else STARTS,
        top.whole("seed") if "seed" in top.raw else 0,
        _uncertain(top, question, quantities),
    )


def _uncertain(
    top: Section, question: Scenario | Mix, quantities: Mapping[str, str]
) -> Uncertainty | None:
    """What the table [uncertain] says; None where there is none."""
    if "uncertain" not in top.raw:
        if "draws" in top.raw:
            raise InputError(
                f"{top.at('draws')}: nothing is uncertain; add [uncertain], or leave draws out"
            )
        return None
    table = top.section("uncertain")
    numbers = {}
    for name in table.raw:
        if name not in _FLAGS:
            with said_of(top.place):
                unit = unit_of_uncertain(question, quantities, name)
            numbers[name] = distribution_of(table.section(name), unit)
    draws = top.whole("draws") if "draws" in top.raw else DRAWS
    seed = top.whole("seed") if "seed" in top.raw else 0
    with said_of(top.place):
        return Uncertainty(
            numbers, table.flag("calibration"), table.flag("technology"), draws, seed
        )


def _bounds(section: Section, name: str) -> tuple[float | str, ...]:
    bounds = section.entries(name)
    for bound in bounds:
        if isinstance(bound, bool) or not isinstance(bound, int | float | str):
            raise InputError(f"{section.at(name)}: {bound!r} is no number; write [low, high]")
    return tuple(bounds)


def _plans(top: Section, question: Scenario | Mix) -> tuple[Parallelism, ...] | None:
    if top.raw.get("plans", "all") == "all":
        return None
    overlap: dict[str, Any] = {"overlap": float(parts_of(question)[0].plan.overlap)}
    with said_of(top.place):
        return tuple(Parallelism(**(overlap | plan)) for plan in stated_plans(top))
