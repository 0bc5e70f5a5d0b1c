"""What a model runs on: an accelerator, the levels of its network, and their files."""
