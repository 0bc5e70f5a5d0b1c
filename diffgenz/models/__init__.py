"""Architectures: a model is an embedding, a tuple of repeated blocks, and an LM head.

- `model`: the record that holds embedding, blocks and LM head.
- `blocks`: one small file for each kind of block. Dense transformers are made of `attention` and
  `mlp`; other models have blocks of `moe`, `latent_attention`, `mamba` or `linear_attention`
  instead.
- `families`: one function for each family, which reads its config.json.
- `huggingface`: from a config.json to a `Model`.

A new kind of block is one file in `blocks` with a subclass of `Block`. A new `model_type` is one
function in `families`.
"""
