"""What a model runs on: accelerators, the levels of their network, and the files of both."""
