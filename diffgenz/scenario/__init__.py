"""The question, in one record.

It holds a model, a platform, a workload, a plan, formats and serving options.
"""
