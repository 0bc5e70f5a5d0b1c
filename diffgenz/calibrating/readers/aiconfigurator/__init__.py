"""Kernel tables in aiconfigurator's layout (PyPI `aiconfigurator-core`, Apache-2.0).

There is one file per family, software and version, known by its name, such as gemm_perf.parquet or
gemm_perf__vllm-0.24.0.parquet. Rows are split by format and kernel; latencies are in ms.
"""
