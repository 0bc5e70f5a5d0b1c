"""Measurements -> parameters of kernel models, with standard errors and held-out errors.

readers (a file -> Samples)  ->  cleaned (duplicates, host-bound and impossible rows: counted)  ->  split (by a hash of the shape)
->  fit (robust least squares with priors, many starts)  ->  Fit  ->  a TOML file, a report
"""
