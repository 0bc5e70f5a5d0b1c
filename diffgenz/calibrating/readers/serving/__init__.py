"""Files of serving benchmarks: one `Benchmark` for each run that they hold."""
