"""Seconds of operators on an accelerator, of messages on a network, of stages of a pipeline."""
