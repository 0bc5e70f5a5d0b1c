"""Seconds: operators on an accelerator, messages on a network, stages of a pipeline."""
