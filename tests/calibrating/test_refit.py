"""The recipe of the shipped fits."""


def test_the_recipe_takes_each_kernel_of_the_newest_version_that_has_it(tmp_path):
    import pandas as pd
    from refit import kernels_of

    rows = {
        "framework": "VLLM",
        "gemm_dtype": "bfloat16",
        "m": [1],
        "n": [2],
        "k": [3],
        "latency": [1.0],
    }
    for version, kernels in (("0.9.0", ("old", "both")), ("0.10.0", ("both", "new"))):
        folder = tmp_path / "h100_sxm" / "gemm" / "vllm" / version
        folder.mkdir(parents=True)
        tables = [
            pd.DataFrame(rows | {"version": version, "kernel_source": kernel}) for kernel in kernels
        ]
        pd.concat(tables).to_parquet(folder / "gemm_perf.parquet")
    found = {samples.kernel: samples.source for _, samples in kernels_of("h100_sxm", tmp_path)}
    assert found == {"both": "vllm-0.10.0", "new": "vllm-0.10.0", "old": "vllm-0.9.0"}
