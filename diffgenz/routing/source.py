"""Files of traces, opened: what they hold, and their tokens in pieces that fit into memory."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from diffgenz.core.errors import InputError
from diffgenz.routing.readers.reader import BLOCK, Asked
from diffgenz.routing.readers.registry import READERS, reader_of
from diffgenz.routing.trace import Counts, Trace


@dataclasses.dataclass(frozen=True)
class Source:
    """Traces in files.

    Arguments:
        files: the files, each with the domain that its folder says; "all" for none.
        experts: routed experts per layer.
        layers: the model's indices of the recorded layers.
        k: how many experts a token chooses in a layer.
        domains: the names of the domains.
        model: the model's name; None: not known.
        asked: what people say of the files.
    """

    files: tuple[tuple[Path, str], ...]
    experts: int
    layers: tuple[int, ...]
    k: int
    domains: tuple[str, ...]
    model: str | None
    asked: Asked

    def chunks(self) -> Iterator[Trace]:
        """The tokens, some requests at a time, in the order of the files.

        Requests are numbered from 0 in order. The tokens of each stand together; one that is larger
        than a chunk goes on in the next.

        Raises:
            InputError: a file is damaged, or has other layers than the first.
        """
        waiting: list[Trace] = []
        for piece in self._pieces():
            waiting.append(piece)
            if sum(each.chosen.size for each in waiting) >= BLOCK:
                yield joined(waiting)
                waiting = []
        if waiting:
            yield joined(waiting)

    def _pieces(self) -> Iterator[Trace]:
        """What the readers yield, with the experts, domains and request numbers of the whole."""
        known = 0
        for path, folder in self.files:
            numbers: dict[int, int] = {}
            for piece in pieces_of(path, self.asked):
                if not isinstance(piece, Trace):
                    raise InputError(f"{path}: holds counts, the others tokens; read them apart")
                self._same(path, piece)
                request, known = _numbered(piece.request, numbers, known)
                names = _domains(piece, folder)
                place = np.array([self.domains.index(name) for name in names])
                yield _changed(
                    piece,
                    experts=self.experts,
                    request=request,
                    domain=place[piece.domain].astype(np.int16),
                    domains=self.domains,
                    model=self.model,
                )

    def _same(self, path: Path, piece: Trace) -> None:
        """Raises `InputError` unless a piece is of the model of the whole."""
        if piece.layers != self.layers or piece.k != self.k:
            raise InputError(
                f"{path}: has {len(piece.layers)} layers ({piece.layers[0]} to {piece.layers[-1]}) "
                f"with {piece.k} experts per token, the trace begins with {len(self.layers)} "
                f"({self.layers[0]} to {self.layers[-1]}) with {self.k}; give traces of one model, "
                "of all its layers"
            )


def open_trace(
    paths: str | Path | Sequence[str | Path],
    *,
    experts: int | None = None,
    k: int | None = None,
    model: str | None = None,
) -> Source | Counts:
    """What files hold: a `Source` of tokens, or the counts of sources that keep no tokens.

    Arguments:
        paths: a file, several, or a folder of them; the folders in it are domains.
        experts: routed experts per layer, at least 1. Default: as the file says; where it does not,
            the largest id plus 1.
        k: experts that a token chooses in a layer, for files that keep no shapes.
        model: the model's name; chooses among those of a file.

    Raises:
        InputError: a file cannot be read, is damaged or not known, or files do not go together.
    """
    asked = Asked(experts, k, model)
    files = _files([paths] if isinstance(paths, str | Path) else list(paths))
    first: Trace | None = None
    found, counts, names = 0, [], dict[str, None]()
    declared: int | None = None
    for path, folder in files:
        reader = reader_of(path)
        for piece in pieces_of(path, asked):
            if isinstance(piece, Counts):
                counts.append(piece)
                continue
            first = first or piece
            found = max(found, piece.experts)
            names.update(dict.fromkeys(_domains(piece, folder)))
            if reader.declares:
                if declared not in (None, piece.experts):
                    raise InputError(
                        f"{path}: has {piece.experts} experts, the others {declared}; "
                        "give traces of one model"
                    )
                declared = piece.experts
                break
    if counts and first is None:
        return _one(counts)
    if first is None or not found:
        raise InputError(f"{files[0][0]}: has no tokens; record while requests are served")
    if counts:
        raise InputError("trace: some files hold counts, others tokens; read them apart")
    if k is not None and first.k != k:
        raise InputError(f"k: {k} is asked for, the trace has {first.k}; it is of another model")
    return Source(
        files=tuple(files),
        experts=declared or found,
        layers=first.layers,
        k=first.k,
        domains=tuple(names),
        model=model or first.model,
        asked=asked,
    )


def load_trace(
    paths: str | Path | Sequence[str | Path],
    *,
    experts: int | None = None,
    k: int | None = None,
    model: str | None = None,
) -> Trace:
    """A trace of expert activations, whole, from a file of any kind in docs/routing.md.

    Arguments:
        paths: a file, several, or a folder of them; the folders in it are domains.
        experts: routed experts per layer, at least 1. Default: as the file says; where it does not,
            the largest id plus 1.
        k: experts that a token chooses in a layer, for files that keep no shapes.
        model: the model's name.

    Raises:
        InputError: a file cannot be read, is damaged or not known, holds counts only, or files do
            not go together.
    """
    source = open_trace(paths, experts=experts, k=k, model=model)
    if isinstance(source, Counts):
        raise InputError("trace: holds counts, not tokens; read it with load_counts")
    return joined(list(source.chunks()))


def load_counts(
    paths: str | Path | Sequence[str | Path],
    *,
    by: str = "domain",
    experts: int | None = None,
    k: int | None = None,
    model: str | None = None,
) -> Counts:
    """How often groups of tokens chose each expert, from a file of any kind in docs/routing.md.

    Arguments:
        paths: as of `load_trace`.
        by: what tokens are grouped by, where the file holds tokens: "request", "domain", "phase",
            "rank" or "all". Counts have the groups of their file.
        experts: as of `load_trace`.
        k: as of `load_trace`.
        model: the model's name; chooses among those of a file.

    Raises:
        InputError: as of `load_trace`.
    """
    source = open_trace(paths, experts=experts, k=k, model=model)
    return source if isinstance(source, Counts) else joined(list(source.chunks())).reduced(by)


def joined(traces: Sequence[Trace]) -> Trace:
    """One trace of several of one model, with the same domains.

    Arguments:
        traces: at least one.
    """
    if len(traces) == 1:
        return traces[0]
    fields = {}
    for name in ("chosen", "request", "phase", "domain", "weights", "rank", "step"):
        values = [getattr(trace, name) for trace in traces]
        fields[name] = None if any(v is None for v in values) else np.concatenate(values)
    return _changed(traces[0], **fields)


def pieces_of(path: Path, asked: Asked) -> Iterator[Trace | Counts]:
    """What the reader of a file yields; its errors begin with the file.

    Arguments:
        path: the file.
        asked: what people say of it.
    """
    pieces = reader_of(path).read(path, asked)
    try:
        yield from pieces
    except InputError as error:
        message = str(error)
        raise error if message.startswith(str(path)) else InputError(f"{path}: {error}") from None
    except OSError as error:
        raise InputError(f"trace: cannot read {path}: {error.strerror}") from None


def _files(paths: Sequence[str | Path]) -> list[tuple[Path, str]]:
    """The files, and for those in folders of folders the first of these."""
    found = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append((path, "all"))
            continue
        inside = [file for file in sorted(path.rglob("*")) if file.is_file()]
        inside = [file for file in inside if any(reader.knows(file) for reader in READERS)]
        if not inside:
            raise InputError(f"{path}: no file in this folder is a trace; docs/routing.md has all")
        for file in inside:
            parts = file.relative_to(path).parts
            found.append((file, parts[0] if len(parts) > 1 else "all"))
    if not found:
        raise InputError("trace: none is given; name a file or folder")
    return found


def _one(counts: list[Counts]) -> Counts:
    """The counts of several files as one: with the groups of all."""
    if len(counts) == 1:
        return counts[0]
    shapes = {(each.layers, each.experts, each.by) for each in counts}
    if len(shapes) > 1:
        raise InputError("counts: files differ in layers, experts or groups; read them apart")
    groups = [f"{i}:{name}" for i, each in enumerate(counts) for name in each.groups]
    return dataclasses.replace(
        counts[0], counts=np.concatenate([each.counts for each in counts]), groups=tuple(groups)
    )


def _domains(piece: Trace, folder: str) -> tuple[str, ...]:
    """The domains of a piece: its own, or that of its folder."""
    return (folder,) if piece.domains == ("all",) else piece.domains


def _numbered(request: np.ndarray, numbers: dict[int, int], known: int) -> tuple[np.ndarray, int]:
    """Numbers of requests in order of appearance, and how many are known after them."""
    starts = np.flatnonzero(np.concatenate([[True], request[1:] != request[:-1]]))
    if not len(request):
        return request, known
    new = np.empty(len(starts), np.int32)
    for i, label in enumerate(request[starts].tolist()):
        if label not in numbers:
            numbers[label] = known
            known += 1
        new[i] = numbers[label]
    return np.repeat(new, np.diff(starts, append=len(request))), known


def _changed(trace: Trace, **fields: object) -> Trace:
    """A trace with other fields, which are known to be right."""
    changed = trace.select(slice(None))
    for name, value in fields.items():
        object.__setattr__(changed, name, value)
    return changed
