"""From a config.json to the blocks of a model: one function for each family of models."""
