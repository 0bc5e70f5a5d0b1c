"""Pools of prefill and decode workers under a load, as text for people and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffgenz.core.units import show
from diffgenz.serving.disaggregated_load import DisaggregatedLoad
from diffgenz.serving.disaggregation import STAGES, Pool
from diffgenz.serving.pool_split import Split
from diffgenz.ui.tables import number, table

_NAMES = ("prefill", "decode")


def pools_text(idle: DisaggregatedLoad, pools: Sequence[Pool], link: Mapping[str, float]) -> str:
    """What the pools are, and what each stage sustains.

    Arguments:
        idle: what they do where there is hardly any load.
        pools: the prefill and the decode workers.
        link: its bandwidth and latency.
    """
    lines = [f"{name}: {_worker(pool)}" for name, pool in zip(_NAMES, pools, strict=True)]
    lines.append(
        f"link of {show(link['link_bandwidth'], 'B/s')}: a transfer takes "
        f"{number(1e3 * float(idle.transfer))} ms"
    )
    rates = (number(float(each)) for each in idle.sustained)
    said = ", ".join(f"{name} {rate}" for name, rate in zip(STAGES, rates, strict=True))
    lines.append(f"requests/s that each stage sustains: {said}")
    return "\n".join(lines)


def _worker(pool: Pool) -> str:
    ranks, name = int(pool.plan.ranks), pool.platform.accelerator.name
    return f"{int(pool.workers)} of {ranks} x {name}, tp {int(pool.plan.tensor)}"


def split_text(found: Sequence[Split], pools: Sequence[Pool], per: str) -> str:
    """A table of the best splits.

    Arguments:
        found: the splits, the best first.
        pools: a prefill and a decode worker.
        per: what the best has most for.
    """
    rows = []
    for each in found:
        rows.append(
            [
                str(each.prefill),
                str(each.decode),
                str(each.accelerators),
                number(each.rate),
                number(each.rate / each.accelerators),
                "" if each.cost is None else number(each.per("cost")),
                number(each.aggregated),
            ]
        )
    header = ["prefill", "decode", "GPUs", "req/s", "req/s/GPU", "req/USD", "aggregated req/s"]
    kinds = [f"{name} worker: {_worker(p)}" for name, p in zip(_NAMES, pools, strict=True)]
    best = {"accelerator": "for each GPU", "cost": "for each USD", "total": "in total"}[per]
    note = f"the best has the highest rate within the objectives {best}"
    return "\n".join([*kinds, "", table(header, rows, "r"), "", note])


def pools_json(
    idle: DisaggregatedLoad, pools: Sequence[Pool], link: Mapping[str, float]
) -> dict[str, Any]:
    """The same as `pools_text`, in SI."""
    sustained = {n: float(r) for n, r in zip(STAGES, idle.sustained, strict=True)}
    return _pools(pools, link) | {"transfer": float(idle.transfer), "sustained": sustained}


def split_json(
    found: Sequence[Split], pools: Sequence[Pool], link: Mapping[str, float]
) -> dict[str, Any]:
    """The same as `split_text`, in SI."""
    return _pools(pools, link) | {"splits": [each._asdict() for each in found]}


def _pools(pools: Sequence[Pool], link: Mapping[str, float]) -> dict[str, Any]:
    each = {
        name: {
            "system": pool.platform.accelerator.name,
            "accelerators": int(pool.plan.ranks),
            "workers": int(pool.workers),
        }
        for name, pool in zip(_NAMES, pools, strict=True)
    }
    return {"pools": each, "link": dict(link)}
