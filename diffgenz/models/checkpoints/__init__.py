"""What a checkpoint is stored in: the modules of a model, each with a format."""
