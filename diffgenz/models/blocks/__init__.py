"""The blocks that models are made of: one file for each kind."""
