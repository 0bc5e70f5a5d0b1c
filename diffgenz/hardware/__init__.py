"""What a model runs on: an accelerator, the levels of its network, and the files that describe them."""
