"""What serving engines (vLLM, SGLang) accept of a scenario, and why they refuse the rest.

`shards` says which widths of a model its ranks share, `layouts` what an engine asks of them and of
the plan, `formats` which formats it can load, and `refusals` puts these together.
"""
