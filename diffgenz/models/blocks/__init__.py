"""The blocks that models are made of: one kind a file."""
