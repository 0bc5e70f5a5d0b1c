"""Why serving engines refuse a scenario: sentences that name the field, its value and a remedy."""

from diffgenz.models.model import Model
from diffgenz.operators.precision import Precision
from diffgenz.scenario.engines.engine import TITLES, Ranks
from diffgenz.scenario.engines.formats import PLAIN, offered
from diffgenz.scenario.engines.layouts import Layouts
from diffgenz.scenario.scenario import Scenario, prompted


def refusals(case: Scenario, engine: str) -> list[str]:
    """Every reason why an engine refuses the plan and formats of a scenario; none if it runs them.

    The length of requests is another matter (`beyond_positions`).

    Arguments:
        case: the scenario, with one concrete plan.
        engine: one of `TITLES`.
    """
    return [*layout_refusals(case, engine), *format_refusals(case)]


def layout_refusals(case: Scenario, engine: str) -> list[str]:
    """Every reason why an engine refuses the plan of a scenario in its formats.

    Arguments:
        case: the scenario, with one concrete plan.
        engine: one of `TITLES`.
    """
    return [*Layouts(case.model).refusals(Ranks.of(case.plan), case.precision, engine)]


def layout_accepted(model: Model, ranks: Ranks, precision: Precision) -> bool:
    """Whether at least one engine runs the plan of a model in some formats.

    Arguments:
        model: what is served.
        ranks: of the plan.
        precision: the formats.
    """
    layouts = Layouts(model)
    return any(next(layouts.refusals(ranks, precision, each), None) is None for each in TITLES)


def format_refusals(case: Scenario) -> list[str]:
    """Every reason why no engine loads the model in the formats of a scenario."""
    known = offered(case.model)
    reason = None if known is None else known.refusal(case.precision)
    return [] if reason is None else [reason]


def beyond_positions(case: Scenario) -> str | None:
    """Why engines refuse requests of this length; None where the positions reach that far.

    It is vLLM's `_get_and_verify_max_len` and SGLang's `ModelConfig`, which refuse a
    --max-model-len or --context-length beyond what the config.json states.
    """
    reach, tokens = case.model.context, longest(case)
    if reach is None or tokens <= reach:
        return None
    return (
        f"{tokens:,} tokens, input and output, exceed the {reach:,} positions of "
        f"{case.model.name}; use shorter requests, or a config.json with scaled positions "
        "(rope_scaling)"
    )


def longest(case: Scenario) -> int:
    """Tokens of a request, those of images included: input and output."""
    workload = prompted(case).workload
    return int(workload.input_tokens + workload.output_tokens)


def engine_notes(case: Scenario) -> list[str]:
    """What engines would refuse of a scenario: a sentence for each, one for those that agree.

    Of formats, it is those that contradict a quantised checkpoint. A variant of another one may be
    known to its user alone, and weights in dtype are those that nobody has chosen yet.

    Arguments:
        case: the scenario, with one concrete plan.
    """
    by_reason: dict[str, list[str]] = {}
    for engine, title in TITLES.items():
        reasons = layout_refusals(case, engine)
        if reasons:
            by_reason.setdefault(reasons[0], []).append(title)
    found = [
        f"{' and '.join(titles)} would refuse {reason}" for reason, titles in by_reason.items()
    ]
    known = offered(case.model)
    if known is not None and known.checkpoint and case.precision.weights not in PLAIN:
        found += [f"engines would refuse {reason}" for reason in format_refusals(case)]
    long = beyond_positions(case)
    return found if long is None else [*found, f"engines would refuse requests so long: {long}"]
