"""GenZ (arXiv 2406.01698) rebuilt from the library's primitives.

It shows that DiffGenZ departs from GenZ on purpose, wherever it does.

| module | holds |
|---|---|
| `system` | GenZ's hardware record and number formats, in SI |
| `graph` | the vocabulary: kernels (the library's operators), messages, and graphs of both |
| `layers` | one layer of each family as GenZ composes it |
| `phases` | whole models: prefill, decode, chunked, and the parts of speculative decoding |
| `evaluation` | the time of all graphs at once, by the library's laws under `jax.vmap` in float64 |
| `memory` | whether a graph fits, and GenZ's bandwidth under offload |
| `subjects` | golden rows: the graphs of each, and our numbers beside those of GenZ |
| `parity` | rows -> outcomes: largest relative errors, and why a row is not covered |

A quirk is a rule of GenZ's that DiffGenZ does not follow. Each is marked "Quirk" where it is coded,
with the name that the goldens give it, if they give it one.
"""
