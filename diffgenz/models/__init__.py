"""Architectures: a model is a tuple of (block, count); one small file per block family.

`attention`, `mlp`: the blocks of dense transformers; `moe`, `mla`, `mamba`, `linear_attention`: what others have instead.
`model`: embedding, blocks, LM head. `huggingface`: config.json -> `Model`.
A new family of blocks is one file with a `Block`; a new `model_type` is one function in `families*`.
"""
