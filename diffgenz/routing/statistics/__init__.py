"""Statistics of traces, each with an interval by resampling requests and its null beside it.

`tally.py` reads a trace once and keeps counts by groups of requests, and a sample of tokens. The
other files turn these into numbers: `imbalance.py`, `similarity.py` (of domains, and over time),
`phases.py`, `coactivation.py`. `statistics.py` puts them together.
"""
