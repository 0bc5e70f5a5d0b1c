"""The space file that tests share."""

TINY = """
constraints = ["fits", "tpot <= 0.02"]
[scenario]
model = "meta-llama/Llama-3.1-8B"
system = "h100_sxm"
gpus = 2
isl = 512
osl = 64
[axes]
memory_bandwidth = { values = ["2 TB/s", "4 TB/s"] }
plan = { plans = "all" }
batch = { values = [1, 8, 64] }
[keep.front]
kind = "pareto"
minimize = ["tpot"]
maximize = ["throughput"]
[keep.map]
kind = "best"
by = ["memory_bandwidth", "batch"]
maximize = "throughput"
[keep.slow]
kind = "histogram"
of = "tpot"
low = 1e-4
high = 1
bins = 4
logarithmic = true
"""
