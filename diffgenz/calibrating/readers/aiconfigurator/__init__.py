"""Kernel tables in aiconfigurator's layout (PyPI `aiconfigurator-core`, Apache-2.0): one file per family, software and version; latencies in ms.

A file is known by its name, such as gemm_perf.parquet or gemm_perf__vllm-0.24.0.parquet; rows are split by format and kernel.
"""
