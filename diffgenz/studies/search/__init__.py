"""Which deployment serves a workload best: plans, batch sizes, formats and chunk sizes."""
