"""SGLang's expert-distribution recorder: what /dump_expert_distribution_record writes.

Source: sgl-project/sglang, python/sglang/srt/eplb/expert_distribution.py. Mode `stat` writes
`logical_count` [steps, layers, experts]. Modes `per_token` and `per_pass` write a record for each
forward pass: `topk_ids_of_layer` [layers, tokens, 8] with -1 where nothing was chosen, or only
`global_physical_count` [layers, physical experts]. Their experts are physical;
`last_physical_to_logical_map` [layers, physical experts] says which logical expert each is a copy
of. A file is one rank's.

Records name no requests. Within a rank they are followed by their positions: a prompt begins at
position 0, and a decode step goes on with the running requests in their order.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.routing.readers.reader import Asked, Reader, experts_of, routed
from diffgenz.routing.readers.torch_file import Tensor, TorchFile
from diffgenz.routing.trace import DECODE, PREFILL, Counts, Trace

DECODE_MODES = (2, 5)
"""SGLang's numbers of the forward modes DECODE and TARGET_VERIFY; 1 is EXTEND, a prefill."""


def knows(path: Path) -> bool:
    """Whether it is a file of torch.save, by its name or by how it begins."""
    if path.suffix in (".pt", ".pth"):
        return True
    with path.open("rb") as file:
        return b"data.pkl" in file.read(256)


def read(path: Path, asked: Asked) -> Iterator[Trace | Counts]:
    """The tokens of each request, or the counts of each step.

    Raises:
        InputError: the file is damaged, or no dump of the recorder.
    """
    file = TorchFile(path)
    content = file.content
    if isinstance(content, Tensor):
        yield counts_of(file.array(content), asked)
    elif isinstance(content, dict) and "logical_count" in content:
        yield counts_of(file.array(content["logical_count"]), asked)
    elif isinstance(content, dict) and isinstance(content.get("records"), list):
        physical = content.get("last_physical_to_logical_map")
        logical = None if physical is None else file.array(physical).astype(np.int64)
        records = [record for record in content["records"] if isinstance(record, dict)]
        if not records:
            raise InputError(f"{path}: has no records; record while requests are served")
        if any("topk_ids_of_layer" in record for record in records):
            yield from _tokens(file, records, logical, asked)
        else:
            yield _passes(file, records, logical, asked)
    else:
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise InputError(
            f"{path}: holds {keys[:80]}; a dump of SGLang's recorder has logical_count or records"
        )


def counts_of(counts: np.ndarray, asked: Asked, names: np.ndarray | None = None) -> Counts:
    """Counts of steps [steps, layers, experts], or of all [layers, experts].

    Steps in which nothing was counted are left out (the recorder's buffer begins full of zeros),
    and so are layers without experts.

    Arguments:
        counts: choices.
        asked: what people say of them.
        names: [layers]; the model's indices of the layers. Default: 0, 1, ...

    Raises:
        InputError: they have another shape, are of another model, or all zero.
    """
    counts = counts[None] if counts.ndim == 2 else counts
    if counts.ndim != 3:
        raise InputError(
            f"counts: have shape {list(counts.shape)}; give [steps, layers, experts] or "
            "[layers, experts]"
        )
    experts = asked.experts
    if experts is not None and counts.shape[2] != experts:
        raise InputError(
            f"experts: {experts} are asked for, the file counts {counts.shape[2]}; "
            "give the counts of that model"
        )
    steps = np.flatnonzero(counts.any(axis=(1, 2)))
    layers = np.flatnonzero(counts.any(axis=(0, 2)))
    if not len(steps):
        raise InputError("counts: are all zero; record while requests are served")
    return Counts(
        counts=counts[np.ix_(steps, layers)],
        groups=tuple(map(str, steps)) if len(counts) > 1 else ("all",),
        by="step" if len(counts) > 1 else "all",
        layers=tuple(map(int, layers if names is None else names[layers])),
        k=asked.k,
        model=asked.model,
    )


def _passes(
    file: TorchFile, records: list[dict[str, Any]], logical: np.ndarray | None, asked: Asked
) -> Counts:
    """The counts of each forward pass, of logical experts."""
    found = []
    for record in records:
        if "global_physical_count" not in record:
            raise InputError(
                f"{file.path}: a record has neither topk_ids_of_layer nor global_physical_count"
            )
        counts = file.array(record["global_physical_count"]).astype(np.float64)
        if logical is not None:
            whole = np.zeros((len(counts), int(logical.max()) + 1))
            np.add.at(whole, (np.arange(len(counts))[:, None], logical), counts)
            counts = whole
        found.append(counts)
    return counts_of(np.stack(found), asked)


def _tokens(
    file: TorchFile, records: list[dict[str, Any]], logical: np.ndarray | None, asked: Asked
) -> Iterator[Trace]:
    """The tokens of each request, which are followed through the records of each rank."""
    running: dict[Any, list[list[int]]] = {}  # of each rank: request, next position
    parts: dict[int, list[tuple[Any, ...]]] = {}  # of each request: its rows
    layers = np.arange(0)
    for record in records:
        ids = np.moveaxis(file.array(record["topk_ids_of_layer"]), 0, 1)
        ids, layers, kept = routed(ids)
        if logical is not None and ids.size:
            if ids.max() >= logical.shape[1]:
                raise InputError(
                    f"{file.path}: physical expert {int(ids.max())} is out of range; "
                    f"last_physical_to_logical_map has {logical.shape[1]}"
                )
            ids = logical[layers[:, None], ids]
        rank = int(record.get("rank", 0))
        record |= {
            name: file.array(value).ravel().tolist()
            for name, value in record.items()
            if name in ("positions", "extend_seq_lens") and isinstance(value, Tensor)
        }
        requests, phases = _followed(record, running.setdefault(rank, []), parts)
        step = int(record.get("forward_pass_id", 0))
        if len(requests) != len(kept):
            raise InputError(
                f"{file.path}: a record has the experts of {len(kept)} tokens and the positions of "
                f"{len(requests)}; it was not written by the recorder's mode per_token"
            )
        requests, phases = requests[kept], phases[kept]
        for request in np.unique(requests):
            rows = requests == request
            parts[int(request)].append((layers, ids[rows], phases[rows], rank, step))
    declared = None if logical is None else int(logical.max()) + 1
    largest = max((int(p[1].max(initial=0)) for rows in parts.values() for p in rows), default=0)
    for request, rows in parts.items():
        if not rows:
            continue
        first = rows[0][0]
        if any(len(p[0]) != len(first) or np.any(p[0] != first) for p in rows):
            raise InputError(f"{file.path}: records have different layers; record all of them")
        sizes = [len(p[1]) for p in rows]
        chosen = np.concatenate([p[1] for p in rows])
        yield Trace(
            experts=experts_of(chosen, asked, declared or asked.experts or largest + 1),
            layers=tuple(map(int, first)),
            chosen=chosen,
            request=np.full(len(chosen), request),
            phase=np.concatenate([p[2] for p in rows]),
            rank=np.repeat([p[3] for p in rows], sizes),
            step=np.repeat([p[4] for p in rows], sizes),
            model=asked.model,
        )


def _followed(
    record: dict[str, Any], running: list[list[int]], parts: dict[int, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """The request and the phase of each token of a record.

    Arguments:
        record: of one forward pass.
        running: the requests of the rank in their order, each with its next position; changed.
        parts: all requests so far; new ones are added.
    """
    positions = [int(p) for p in record.get("positions") or []]
    lengths = record.get("extend_seq_lens")
    prefill = lengths is not None and int(record.get("forward_mode", 1)) not in DECODE_MODES
    lengths = [int(n) for n in lengths] if prefill and lengths is not None else [1] * len(positions)
    requests, phases, place, done = [], [], 0, 0
    alive: list[list[int]] = []
    for length in lengths:
        start = positions[done] if done < len(positions) else 0
        found = next(
            (i for i in range(place, len(running)) if running[i][1] == start and start), None
        )
        if found is None:
            entry = [len(parts), 0]
            parts[entry[0]] = []
            running.append(entry)
        else:
            entry = running[found]
            if not prefill:
                place = found + 1
        decode = not prefill or (length == 1 and found is not None)
        requests += [entry[0]] * length
        phases += [DECODE if decode else PREFILL] * length
        entry[1] = start + length
        alive.append(entry)
        done += length
    if not prefill:  # those that a decode step leaves out have ended
        running[:] = alive
    return np.array(requests, np.int64), np.array(phases, np.int8)


READERS = (Reader("a dump of SGLang's recorder (.pt)", knows, read, declares=False),)
