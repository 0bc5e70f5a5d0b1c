"""Architectures: a model is a tuple of blocks and how often each of them is executed.

`blocks` has one file for each kind of block, `families` one function for each `model_type` of a
config.json. `model` puts embedding, blocks and LM head together; `huggingface` makes one of a
config.json, and `checkpoint` reads the formats that its weights are stored in.
"""
