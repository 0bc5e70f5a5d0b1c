"""The question: model, platform, workload, plan, formats and serving options in one record."""
