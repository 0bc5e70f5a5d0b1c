"""From config.json to blocks: one function for each family of models."""
