"""GenZ (arXiv 2406.01698) rebuilt from the library's primitives, to show that where DiffGenZ departs from it, it does so on purpose.

| module | holds |
|---|---|
| `system` | GenZ's hardware record and number formats, in SI |
| `graph` | the vocabulary: kernels (the library's operator constructors), messages, and graphs of them |
| `layers` | one layer of each family as GenZ composes it |
| `phases` | whole models: prefill, decode, chunked, and what of them speculative decoding needs |
| `evaluation` | all graphs at once: operators, rooflines and collectives of the library, batched by `jax.vmap` in float64 |
| `memory` | whether a graph fits, and GenZ's bandwidth under offload |
| `subjects` | one golden row each: the graphs it needs, and which of our numbers stands against which of GenZ's |
| `parity` | rows -> outcomes: largest relative errors, and what is not covered and why |

A quirk is a rule of GenZ's that DiffGenZ does not follow; each is marked "Quirk" where it is coded, with the name the goldens give it, if any.
"""
