"""The question: one record that says what is served, on what, how, and for whom.

    case = Scenario(model, platform, Workload(batch=64), Parallelism(tensor=8))
    estimate(case), breakdown(case), elasticities(case, "tpot"), search(case, tpot=0.02), ...

The parts of a scenario check themselves, and `conditions` says what must hold between them. A
sweep reads the same conditions as masks.
"""

from collections.abc import Iterable, Iterator

import equinox as eqx

from diffgenz.core.checks import Condition, at_most, demand, divides
from diffgenz.core.errors import InputError, unknown
from diffgenz.core.leaves import with_parts
from diffgenz.core.record import Record
from diffgenz.core.smooth import SHARPNESS, check_sharpness
from diffgenz.hardware.accelerator import Accelerator
from diffgenz.hardware.platform import Platform
from diffgenz.models.model import Model
from diffgenz.operators.layer_format import MODULES
from diffgenz.operators.operator import Kind
from diffgenz.operators.precision import Precision
from diffgenz.operators.routing import Routing, Uniform
from diffgenz.operators.step import Step
from diffgenz.scenario.parallelism import Parallelism
from diffgenz.scenario.serving_options import MTP, Draft, Serving
from diffgenz.scenario.workload import Workload

_PARTS = (
    ("model", Model, Model.written),
    ("platform", Platform, Platform.written),
    ("workload", Workload, "Workload(batch, input_tokens, output_tokens)"),
    ("plan", Parallelism, "Parallelism(tensor=8)"),
    ("precision", Precision, 'Precision(weights="fp8", activations="fp8")'),
    ("serving", Serving, "Serving(chunk=2048)"),
    ("routing", Routing, "Traced(rows=1.8, far=0.7)"),
)
"""The records of a scenario, in the order of its arguments, and how to write each."""


class Scenario(Record):
    """One question: a model, what it runs on, what it is asked, and how it is served.

    Arguments:
        model: what is served, from `load_model` or built by hand.
        platform: what it runs on, from `load_platform` or built by hand.
        workload: requests that arrive together. Default: `Workload()`.
        plan: how the model is laid out. Default: tensor-parallel over all accelerators.
        precision: number formats. Default: bf16 throughout.
        serving: what the server does besides batching. Default: nothing.
        routing: which experts tokens go to. Default: all are equally popular.
        sharpness: 1, 2, 4, 8 or `HARD`, see `core.smooth`.
        smooth_batch: whether requests and tokens are continuous variables, for optimizers: ranks,
            stages and tiles of kernels then take smooth shares of them, not whole ones, and the
            chunks of prompts are at least one as smoothly as `sharpness` says. Off, shares are
            rounded up, which is exact, but whose stairs have misleading slopes.

    Raises:
        InputError: parts that do not go together: more ranks than accelerators, heads or layers, a
            format that the accelerator does not multiply, images for a model without a tower,
            drafts by a module that the model does not have, or offloading to memory that the
            accelerator does not have.
    """

    model: Model
    platform: Platform
    workload: Workload
    plan: Parallelism
    precision: Precision
    serving: Serving
    routing: Routing
    sharpness: float = eqx.field(static=True)
    smooth_batch: bool = eqx.field(static=True)

    def __init__(
        self,
        model: Model,
        platform: Platform,
        workload: Workload | None = None,
        plan: Parallelism | None = None,
        precision: Precision | None = None,
        serving: Serving | None = None,
        routing: Routing | None = None,
        sharpness: float = SHARPNESS,
        smooth_batch: bool = False,
    ):
        parts = (model, platform, workload, plan, precision, serving, routing)
        for (name, kind, remedy), value in zip(_PARTS, parts, strict=True):
            if value is not None or name in ("model", "platform"):
                demand(name, value, kind, remedy)
        self.model = model
        self.platform = platform
        self.workload = Workload() if workload is None else workload
        self.plan = Parallelism(platform.accelerators) if plan is None else plan
        self.precision = Precision() if precision is None else precision
        self.serving = Serving() if serving is None else serving
        self.routing = Uniform() if routing is None else routing
        self.sharpness = sharpness
        self.smooth_batch = smooth_batch

    def conditions(self) -> Iterator[Condition]:
        check_sharpness(self.sharpness)
        _check_formats(self.precision, self.platform.accelerator)
        _check_modules(self.precision, self.model)
        yield from self._layout_conditions()
        if self.model.vision is None:
            what = f"since {self.model.name} has no vision tower that is modelled; leave them out"
            yield at_most("images", self.workload.images, 0.0, what)
        yield from self._serving_conditions()

    def _layout_conditions(self) -> Iterator[Condition]:
        model, plan, name = self.model, self.plan, self.model.name
        yield at_most(
            "tensor x context x attention_data x pipeline x data",
            plan.ranks,
            self.platform.accelerators,
            "the platform's accelerators; use fewer ranks or more accelerators",
        )
        what = f"the heads of {name}; use fewer tensor-parallel ranks (Scenario.plan)"
        yield at_most("tensor", plan.tensor, model.most_shards, what)
        what = f"the layers of {name}; use fewer stages"
        yield at_most("pipeline", plan.pipeline, model.layers, what)
        if plan.context is not None and model.keeps_state:
            what = f"since {name} keeps a state per sequence; use tensor, pipeline or data"
            yield at_most("context", plan.context, 1.0, what)
        if not model.experts:
            what = f"since {name} has no experts; leave it out"
            yield at_most("expert", plan.expert, 1.0, what)
            what = f"since {name} has no experts; use data"
            yield at_most("attention_data", plan.attention_data, 1.0, what)
        kinds = len(model.experts)
        if not kinds and not isinstance(self.routing, Uniform):
            raise InputError(f"routing: {name} has no experts; leave it out")
        if self.routing.kinds_told not in (None, kinds):
            raise InputError(
                f"routing: tells {self.routing.kinds_told} kinds of layers apart, and {name} has "
                f"{kinds} with experts; give one routing for each, or one for all"
            )
        for experts in model.experts:
            yield divides("expert", plan.expert, experts, f"experts of {name}")

    def _serving_conditions(self) -> Iterable[Condition]:
        draft, accelerator, plan = self.serving.draft, self.platform.accelerator, self.plan
        if isinstance(draft, MTP) and not self.model.mtp:
            raise InputError(
                f"draft: {self.model.name} has no multi-token-prediction module that is modelled; "
                "name a draft model, or leave it out to draft by n-grams"
            )
        if isinstance(draft, Draft):
            own = accelerator if draft.platform is None else draft.platform.accelerator
            _check_formats(draft.precision, own)
            if draft.platform is None:
                what = "the ranks of a replica; use fewer for the draft model"
                ranks = plan.replica_group * plan.pipeline
                yield at_most("draft tensor", draft.tensor, ranks, what)
        if self.serving.offload is not None and not accelerator.tiers:
            raise InputError(
                f"offload: {accelerator.name} has no slower memory to offload to; leave it out, or "
                "add a [[memory_tier]] to its file (Accelerator.tiers)"
            )


def demand_scenario(case: object, field: str = "case") -> None:
    """Raise `InputError` unless `case`, called `field`, is a scenario."""
    demand(field, case, Scenario, "Scenario(model, platform, workload)")


def _check_modules(precision: Precision, model: Model) -> None:
    """Raise `InputError` if there are formats of a kind of layer that the model does not have."""
    own = [key for key in precision.modules_named if key not in MODULES]
    if own:
        step = Step(1.0, 1.0, 0.0, 1.0, precision)
        operators = [*model.head_operators(step)]
        for decoding in (False, True):  # latent attention has rows of its own in each
            operators += model.layer_operators(step.replace(decoding=decoding))
        rows = {op.name for op in operators if op.kind in (Kind.LINEAR, Kind.WIDE)}
        for key in own:
            if key not in rows:
                raise unknown("modules", key, (*MODULES, *sorted(rows)))


def _check_formats(precision: Precision, accelerator: Accelerator) -> None:
    """Raise `InputError` if there is a format that the accelerator does not multiply."""
    for peak in precision.peaks:
        accelerator.peak(peak)


def prompted(case: Scenario) -> Scenario:
    """The scenario as the language model sees it, with image tokens as part of the prompt."""
    tower, workload = case.model.vision, case.workload
    if tower is None:
        return case
    tokens = workload.input_tokens + workload.images * tower.tokens
    return with_parts(case, {"workload": workload.replace(input_tokens=tokens, images=0.0)})
