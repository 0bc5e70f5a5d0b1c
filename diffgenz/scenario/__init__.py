"""The question: a model, a platform, a workload, a plan, formats and serving options in one record."""
