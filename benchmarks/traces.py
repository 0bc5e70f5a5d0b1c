"""How long the statistics of a large trace take, and how much memory.

    python benchmarks/traces.py [--quick] [--json OUT]

The trace is synthetic, of the shape of DeepSeek-V3: 58 layers, 8 of 256 experts, requests of 100
prompt and 200 generated tokens, two domains. It has 1e8 rows of a token and a layer (1e7 with
--quick), is written to a temporary file of 8 bytes a row, and read back in a process of its own,
whose memory is measured. The same run checks the counts against those of the choices as written.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from report import Report, parser_of

from diffgenz.routing.trace import FORMAT
from diffgenz.ui.tables import number, table

LAYERS, EXPERTS, K, PROMPT, LENGTH = 58, 256, 8, 100, 300
BLOCK = 20_000

MEASURE = """
import json, resource, sys, time
from diffgenz.routing.source import open_trace
from diffgenz.routing.statistics.statistics import routing_statistics
start, cpu = time.perf_counter(), time.process_time()
found = routing_statistics(open_trace(sys.argv[1]))
print(json.dumps({
    "seconds": time.perf_counter() - start,
    "processor_seconds": time.process_time() - cpu,
    "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "counts": sum(found.counts.values()).tolist(),
}))
"""
"""Run in a process of its own."""


def write(path: Path, tokens: int) -> np.ndarray:
    """Writes the trace; returns its counts [layers, experts].

    Arguments:
        path: where.
        tokens: how many.
    """
    counts = np.zeros((LAYERS, EXPERTS), np.int64)
    with zipfile.ZipFile(path, "w") as file:
        request = np.arange(tokens, dtype=np.int32) // LENGTH
        whole = {
            "format": np.array(FORMAT),
            "experts": np.array(EXPERTS),
            "layers": np.arange(3, 3 + LAYERS),
            "domains": np.array(["code", "chat"]),
            "request": request,
            "phase": (np.arange(tokens) % LENGTH >= PROMPT).astype(np.int8),
            "domain": (request % 2).astype(np.int16),
        }
        for name, array in whole.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array)
        with file.open("chosen.npy", "w", force_zip64=True) as stream:
            header = {"descr": "|u1", "fortran_order": False, "shape": (tokens, LAYERS, K)}
            np.lib.format.write_array_header_1_0(stream, header)
            for block in _blocks(tokens):
                stream.write(block.tobytes())
                for layer in range(LAYERS):
                    counts[layer] += np.bincount(block[:, layer].ravel(), minlength=EXPERTS)
    return counts


def _blocks(tokens: int) -> Iterator[np.ndarray]:
    """Choices of tokens, [tokens, layers, k] uint8: eight apart, around a popular one."""
    rng = np.random.default_rng(0)
    order = rng.permuted(np.tile(np.arange(EXPERTS, dtype=np.uint8), (LAYERS, 1)), axis=1)
    layers = np.arange(LAYERS)[:, None]
    for first in range(0, tokens, BLOCK):
        size = (min(BLOCK, tokens - first), LAYERS)
        start = (np.abs(rng.standard_normal(size)) * 60).astype(np.int64)
        yield order[layers, (start[..., None] + 29 * np.arange(K)) % EXPERTS]


def main() -> None:
    """Measure, print, write."""
    options = parser_of(__doc__, "1e7 rows instead of 1e8").parse_args()
    rows = 10_000_000 if options.quick else 100_000_000
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.npz"
        counts = write(path, -(-rows // LAYERS))
        size = path.stat().st_size
        command = [sys.executable, "-c", MEASURE, str(path)]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    wrong = int(np.abs(np.array(found.pop("counts")) - counts).sum())
    report.rows.append({"rows": rows, "file_bytes": size, **found})
    cells = (
        f"{rows:,}",
        number(size / 1e9),
        number(found["seconds"]),
        number(found["processor_seconds"]),
        number(found["bytes"] / 1e9),
    )
    print(table(("rows", "file GB", "s", "processor s", "memory GB"), [cells]))
    report.check("seconds of the statistics", found["seconds"], "s", 60)
    report.check("peak memory", found["bytes"] / 1e9, "GB", 2)
    report.check("choices counted wrongly", wrong, "", 0)
    report.finish(options.json)


if __name__ == "__main__":
    main()
