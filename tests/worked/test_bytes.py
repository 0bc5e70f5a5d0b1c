"""Bytes on one accelerator, written out from config.json for a model of each kind of architecture.

Weights of a tensor-parallel rank, KV cache and states, by plain arithmetic without the package.
Everything is 2 B wide except recurrent states, which are 4. A rank has its share of heads and
features, of the vocabulary and of every expert; norms, routers and what follows a sum over ranks
(output biases) are whole. A window keeps what it holds while a chunk of 8192 tokens is computed
beside it, and models with several kinds of caches have room for as many layers as vLLM's groups.
"""

from typing import NamedTuple

import jax
import pytest
from support import assert_close

from diffgenz import Parallelism, Scenario, Workload, load_model
from diffgenz.inference.jobs import jobs_of
from diffgenz.inference.resolved import resolved


class Rank(NamedTuple):
    """What one of `tp` ranks keeps: parameters, and B per request of `context` tokens."""

    tp: int
    parameters: int
    context: int
    cache: int
    ep: int = 1


RANKS = {
    # grouped-query: 28 layers, 24 heads and 8 KV heads of 128; tied
    "meta-llama/Llama-3.2-3B": Rank(
        tp=4,
        parameters=28 * (3072 * (6 + 2 * 2) * 128 + 6 * 128 * 3072 + 3 * 3072 * 2048 + 2 * 3072)
        + 3072
        + 32_064 * 3072,
        context=8000,
        cache=28 * 2 * 2 * 128 * 2 * 8000,
    ),
    # multi-query: 71 heads of 64 padded to 72, one KV head, whole on each rank; attention and plain
    # MLP under one layer norm; tied
    "tiiuae/falcon-7b": Rank(
        tp=2,
        parameters=32 * (4544 * (36 + 2) * 64 + 36 * 64 * 4544 + 2 * 4544 * 9088 + 2 * 4544)
        + 2 * 4544
        + 32_512 * 4544,
        context=2000,
        cache=32 * 2 * 1 * 64 * 2 * 2000,
    ),
    # multi-head, biases, layer norms, 1024 learned positions; tied: the published count
    "openai-community/gpt2-xl": Rank(
        tp=1,
        parameters=48 * (1601 * 4800 + 1601 * 1600 + 1601 * 6400 + 6401 * 1600 + 4 * 1600)
        + 2 * 1600
        + (50_257 + 1024) * 1600,
        context=1000,
        cache=48 * 2 * 25 * 64 * 2 * 1000,
    ),
    # parallel blocks with biases, also in the LM head
    "microsoft/phi-2": Rank(
        tp=2,
        parameters=32 * (2561 * 3 * 1280 + 1281 * 2560 + 2561 * 5120 + 5121 * 2560 + 2 * 2560)
        + 2 * 2560
        + 25_600 * (2560 + 2561),
        context=2000,
        cache=32 * 2 * 16 * 80 * 2 * 2000,
    ),
    # parallel blocks under one norm without bias; tied
    "CohereForAI/c4ai-command-r-v01": Rank(
        tp=8,
        parameters=40 * (8192 * 3 * 1024 + 1024 * 8192 + 3 * 8192 * 2816 + 8192)
        + 8192
        + 32_000 * 8192,
        context=2000,
        cache=40 * 2 * 8 * 128 * 2 * 2000,
    ),
    # biases on queries, keys and values
    "Qwen/Qwen2.5-7B": Rank(
        tp=4,
        parameters=28 * (3585 * (7 + 2) * 128 + 7 * 128 * 3584 + 3 * 3584 * 4736 + 2 * 3584)
        + 3584
        + 2 * 38_016 * 3584,
        context=2000,
        cache=28 * 2 * 1 * 128 * 2 * 2000,
    ),
    # norms on queries and keys; 8 KV heads on 16 ranks: one each, twice
    "Qwen/Qwen3-8B": Rank(
        tp=16,
        parameters=36
        * (4096 * (2 + 2) * 128 + 2 * 128 * 4096 + 3 * 4096 * 768 + 2 * 4096 + 2 * 128)
        + 4096
        + 2 * 9496 * 4096,
        context=2000,
        cache=36 * 2 * 1 * 128 * 2 * 2000,
    ),
    # windows of 1024 in all but every sixth of 34 layers; four norms a layer, and two of 256 on
    # queries and keys; tied; SigLIP of 27 layers, with biases, and one whole projection after it
    "google/gemma-3-4b-pt": Rank(
        tp=2,
        parameters=34
        * (2560 * (4 + 2 * 2) * 256 + 4 * 256 * 2560 + 3 * 2560 * 5120 + 4 * 2560 + 2 * 256)
        + 2560
        + 131_104 * 2560
        + 27 * (1153 * 3 * 576 + 577 * 1152 + 1153 * 2152 + 2153 * 1152 + 4 * 1152)
        + (589 + 4096 + 2 + 1 + 2560) * 1152,
        context=8000,
        cache=2 * 2 * 256 * 2 * (30 + 5) * 8000,
    ),
    # windows of 128 in every other of 24 layers; biases everywhere; a sink per head; 32 experts of
    # 2880
    "openai/gpt-oss-20b": Rank(
        tp=4,
        parameters=24
        * (
            2881 * (16 + 2 * 2) * 64
            + (16 * 64 + 1) * 2880
            + 16
            + 32 * (2881 * 2 * 720 + 721 * 2880)
            + 2881 * 32
            + 2 * 2880
        )
        + 2880
        + 2 * 50_272 * 2880,
        context=8000,
        cache=2 * 2 * 64 * 2 * 24 * 8000,
    ),
    # eight experts and a router
    "mistralai/Mixtral-8x7B-v0.1": Rank(
        tp=2,
        parameters=32
        * (4096 * (16 + 2 * 4) * 128 + 16 * 128 * 4096 + 8 * 3 * 4096 * 7168 + 8 * 4096 + 2 * 4096)
        + 4096
        + 2 * 16_000 * 4096,
        context=2000,
        cache=32 * 2 * 4 * 128 * 2 * 2000,
    ),
    # 60 experts of 1408, a shared one of 5632 behind a gate; biases on queries, keys and values
    "Qwen/Qwen1.5-MoE-A2.7B": Rank(
        tp=2,
        parameters=24
        * (
            2049 * 3 * 8 * 128
            + 8 * 128 * 2048
            + 60 * 3 * 2048 * 704
            + 60 * 2048
            + 3 * 2048 * 2816
            + 2048
            + 2 * 2048
        )
        + 2048
        + 2 * 75_968 * 2048,
        context=2000,
        cache=24 * 2 * 8 * 128 * 2 * 2000,
    ),
    # one dense layer of 10,944, then 128 experts of 1408 and a shared one; the router keeps a bias
    # per expert
    "zai-org/GLM-4.5-Air": Rank(
        tp=8,
        parameters=46 * (4097 * (12 + 2) * 128 + 12 * 128 * 4096 + 2 * 4096)
        + 3 * 4096 * 1368
        + 45 * (128 * 3 * 4096 * 176 + 3 * 4096 * 176 + 4097 * 128)
        + 4096
        + 2 * 18_944 * 4096,
        context=2000,
        cache=46 * 2 * 1 * 128 * 2 * 2000,
    ),
    # latent attention: 512 + 64 per token, whole on every rank, as is what compresses; 64 experts
    # and two shared ones of 1408, one dense layer
    "deepseek-ai/DeepSeek-V2-Lite": Rank(
        tp=4,
        parameters=27
        * (2048 * 4 * 192 + 2048 * 576 + 512 + 512 * 4 * (128 + 128) + 4 * 128 * 2048 + 2 * 2048)
        + 3 * 2048 * 2736
        + 26 * (64 * 3 * 2048 * 352 + 3 * 2048 * 704 + 64 * 2048)
        + 2048
        + 2 * 25_600 * 2048,
        context=8000,
        cache=27 * 576 * 2 * 8000,
    ),
    # the indexer, whole: 64 heads of 128, a key of 128 B and a scale of 4 B per token; 256 experts
    # of 2048 on 8 groups, three dense layers
    "deepseek-ai/DeepSeek-V3.2": Rank(
        tp=8,
        ep=8,
        parameters=61
        * (
            7168 * (1536 + 576)
            + 1536
            + 512
            + 1536 * 16 * 192
            + 512 * 16 * (128 + 128)
            + 16 * 128 * 7168
            + 2 * 7168
        )
        + 61 * (1536 * 64 * 128 + 7168 * 128 + 7168 * 64 + 2 * 128)
        + 3 * (3 * 7168 * 2304)
        + 58 * (32 * 3 * 7168 * 2048 + 3 * 7168 * 256 + 7169 * 256)
        + 7168
        + 2 * 16_160 * 7168,
        context=8000,
        cache=61 * (576 * 2 + 128 + 4) * 8000,
    ),
    # chunks of 8192 in three of four layers; 128 experts beside a shared one in every other, a
    # dense MLP in those between; the tower of 34 layers
    "meta-llama/Llama-4-Maverick-17B-128E": Rank(
        tp=8,
        parameters=48 * (5120 * (5 + 2) * 128 + 5 * 128 * 5120 + 2 * 5120)
        + 24 * 3 * 5120 * 2048
        + 24 * (128 * 3 * 5120 * 1024 + 3 * 5120 * 1024 + 128 * 5120)
        + 5120
        + 2 * 25_256 * 5120
        + 3 * 14 * 14 * 1408  # patches
        + (577 + 1) * 1408  # positions, class token
        + 34 * (1409 * 3 * 2 * 88 + (2 * 88 + 1) * 1408 + 1409 * 704 + 705 * 1408 + 4 * 1408)
        + 2 * 2 * 1408  # norms before and after
        + 5632 * 512
        + 512 * 4096
        + 4096 * 5120,  # four patches to a token, through two shared layers and a whole one
        context=20_000,
        cache=2 * 1 * 128 * 2 * (36 * (8192 - 1 + 8192) + 12 * 20_000),
    ),
    # Mamba: 5120 channels of 16; their convolution of 4 keeps three tokens; tied
    "state-spaces/mamba-2.8b-hf": Rank(
        tp=4,
        parameters=64
        * (2560 * 2560 + 1280 * 5 + 1280 * (160 + 32) + 161 * 1280 + 1280 * 17 + 1280 * 2560 + 2560)
        + 2560
        + 12_570 * 2560,
        context=8000,
        cache=64 * (1280 * 16 * 4 + 1280 * 3 * 2),
    ),
    # Mamba-2: 128 heads of 64 x 128 in 8 groups
    "mistralai/Mamba-Codestral-7B-v0.1": Rank(
        tp=8,
        parameters=64
        * (4096 * (2 * 1024 + 2 * 128 + 16) + (1024 + 256) * 5 + 3 * 16 + 1024 + 1024 * 4096 + 4096)
        + 4096
        + 2 * 4096 * 4096,
        context=8000,
        cache=64 * (16 * 64 * 128 * 4 + (1024 + 256) * 3 * 2),
    ),
    # Mamba with norms in 28 layers, attention in 4; 16 experts in every other, a dense MLP between
    "ai21labs/AI21-Jamba-1.5-Mini": Rank(
        tp=4,
        parameters=28
        * (
            4096 * 2 * 2048
            + 2048 * 5
            + 2048 * 288
            + 288
            + 257 * 2048
            + 2048 * 17
            + 2048 * 4096
            + 4096
        )
        + 4 * (4096 * (8 + 2 * 2) * 128 + 8 * 128 * 4096 + 4096)
        + 16 * (3 * 4096 * 3584 + 4096)
        + 16 * (16 * 3 * 4096 * 3584 + 16 * 4096 + 4096)
        + 4096
        + 2 * 16_384 * 4096,
        context=8000,
        cache=4 * 2 * 2 * 128 * 2 * 8000 + 28 * (2048 * 16 * 4 + 2048 * 3 * 2),
    ),
    # one block a layer: 24 Mamba-2, 4 attention, 24 plain MLP
    "nvidia/Nemotron-H-8B-Base-8K": Rank(
        tp=4,
        parameters=24
        * (
            4096 * (2 * 2048 + 2 * 2 * 128 + 32)
            + (2048 + 512) * 5
            + 3 * 32
            + 2048
            + 2048 * 4096
            + 4096
        )
        + 4 * (4096 * (8 + 2 * 2) * 128 + 8 * 128 * 4096 + 4096)
        + 24 * (2 * 4096 * 5376 + 4096)
        + 4096
        + 2 * 32_768 * 4096,
        context=8000,
        cache=4 * 2 * 2 * 128 * 2 * 8000 + 24 * (32 * 64 * 128 * 4 + (2048 + 512) * 3 * 2),
    ),
    # 36 Mamba-2 of one group, whole on each rank, 4 attention; 64 experts of 512 beside a shared
    # one of 1024 in all; tied
    "ibm-granite/granite-4.0-h-tiny": Rank(
        tp=4,
        parameters=36
        * (1536 * (2 * 768 + 2 * 128 + 12) + (768 + 256) * 5 + 3 * 12 + 768 + 768 * 1536 + 1536)
        + 4 * (1536 * (3 + 2 * 1) * 128 + 3 * 128 * 1536 + 1536)
        + 40 * (64 * 3 * 1536 * 128 + 64 * 1536 + 3 * 1536 * 256 + 1536)
        + 1536
        + 25_088 * 1536,
        context=8000,
        cache=4 * 2 * 1 * 128 * 2 * 8000 + 36 * (12 * 64 * 128 * 4 + (768 + 256) * 3 * 2),
    ),
    # 81 Mamba-2; two blocks of attention (over the residual and the embedding) and MLP, used 13
    # times, each use with a cache, an adapter and a projection
    "Zyphra/Zamba2-7B": Rank(
        tp=4,
        parameters=81
        * (3584 * (2 * 1792 + 2 * 64 + 28) + (1792 + 128) * 5 + 3 * 28 + 1792 + 1792 * 3584 + 3584)
        + 2 * (7168 * 3 * 8 * 224 + 8 * 224 * 3584 + 7168 + 3 * 3584 * 3584 + 3584)
        + 13 * (3584 * 128 + 128 * 2 * 3584 + 3584 * 3584)
        + 3584
        + 8000 * 3584,
        context=8000,
        cache=13 * 2 * 8 * 224 * 2 * 8000 + 91 * (28 * 64 * 64 * 4 + (1792 + 128) * 3 * 2),
    ),
    # gated delta nets in three of four layers, attention with an output gate; 512 experts of 512
    # beside a shared one behind a gate
    "Qwen/Qwen3-Next-80B-A3B-Instruct": Rank(
        tp=2,
        parameters=36
        * (2048 * (2 * 1024 + 2 * 2048 + 2 * 16) + 4096 * 4 + 2 * 16 + 128 + 2048 * 2048 + 2048)
        + 12 * (2048 * (2 * 8 + 2 * 1) * 256 + 2 * 256 + 8 * 256 * 2048 + 2048)
        + 48 * (512 * 3 * 2048 * 256 + 512 * 2048 + 3 * 2048 * 256 + 2048 + 2048)
        + 2048
        + 2 * 75_968 * 2048,
        context=8000,
        cache=12 * 2 * 1 * 256 * 2 * 8000 + 36 * (16 * 128 * 128 * 4 + (2 * 1024 + 2048) * 3 * 2),
    ),
    # the same with a dense MLP, and a tower of 27 layers without DeepStack
    "Qwen/Qwen3.5-27B": Rank(
        tp=4,
        parameters=48
        * (5120 * (2 * 512 + 2 * 1536 + 2 * 12) + 2560 * 4 + 2 * 12 + 128 + 1536 * 5120 + 5120)
        + 16 * (5120 * (2 * 6 + 2 * 1) * 256 + 2 * 256 + 6 * 256 * 5120 + 5120)
        + 64 * (3 * 5120 * 4352 + 5120)
        + 5120
        + 2 * 62_080 * 5120
        + (3 * 2 * 16 * 16 + 1 + 2304) * 1152  # patches of two frames, positions
        + 27 * (1153 * 3 * 4 * 72 + (4 * 72 + 1) * 1152 + 1153 * 1076 + 1077 * 1152 + 4 * 1152)
        + 2 * 1152
        + 4609 * 1152
        + 1153 * 5120,  # four patches to a token
        context=8000,
        cache=16 * 2 * 1 * 256 * 2 * 8000 + 48 * (12 * 128 * 128 * 4 + 2560 * 3 * 2),
    ),
    # Kimi delta attention in 20 layers, latent attention in 7; one dense layer, then 256 experts of
    # 1024 and a shared one
    "moonshotai/Kimi-Linear-48B-A3B-Instruct": Rank(
        tp=8,
        parameters=20
        * (
            2304 * (3 * 512 + 4)
            + 2 * (2304 * 128 + 128 * 512)
            + 3 * 512 * 4
            + 4
            + 512
            + 128
            + 512 * 2304
            + 2304
        )
        + 7 * (2304 * 4 * 192 + 2304 * 576 + 512 + 512 * 4 * (128 + 128) + 4 * 128 * 2304 + 2304)
        + 3 * 2304 * 1152
        + 26 * (256 * 3 * 2304 * 128 + 3 * 2304 * 128 + 2305 * 256)
        + 27 * 2304
        + 2304
        + 2 * 20_480 * 2304,
        context=8000,
        cache=7 * 576 * 2 * 8000 + 21 * (4 * 128 * 128 * 4 + 3 * 512 * 3 * 2),
    ),
    # a Llama behind CLIP, 576 patches and a class token, and two linear layers
    "llava-hf/llava-1.5-7b-hf": Rank(
        tp=2,
        parameters=32 * (4096 * 3 * 2048 + 2048 * 4096 + 3 * 4096 * 5504 + 2 * 4096)
        + 4096
        + 2 * 16_032 * 4096
        + 3 * 14 * 14 * 1024
        + (577 + 1) * 1024
        + 24 * (1025 * 3 * 512 + 513 * 1024 + 1025 * 2048 + 2049 * 1024 + 4 * 1024)
        + 2 * 2 * 1024
        + 1025 * 2048
        + 2049 * 4096,
        context=2000,
        cache=32 * 2 * 16 * 128 * 2 * 2000,
    ),
    # a Qwen 2.5 behind a tower with RMS norms and a gated MLP
    "Qwen/Qwen2.5-VL-7B-Instruct": Rank(
        tp=1,
        parameters=28 * (3585 * (28 + 2 * 4) * 128 + 28 * 128 * 3584 + 3 * 3584 * 18_944 + 2 * 3584)
        + 3584
        + 2 * 152_064 * 3584
        + 3 * 2 * 14 * 14 * 1280
        + 32 * (1281 * 3 * 1280 + 1281 * 1280 + 1281 * 2 * 3420 + 3421 * 1280 + 2 * 1280)
        + 1280
        + 5121 * 5120
        + 5121 * 3584,
        context=2000,
        cache=28 * 2 * 4 * 128 * 2 * 2000,
    ),
    # a Qwen 3 behind a tower that hands on three layers through projectors of their own
    "Qwen/Qwen3-VL-8B-Instruct": Rank(
        tp=1,
        parameters=36
        * (4096 * (32 + 2 * 8) * 128 + 32 * 128 * 4096 + 3 * 4096 * 12_288 + 2 * 4096 + 2 * 128)
        + 4096
        + 2 * 151_936 * 4096
        + (3 * 2 * 16 * 16 + 1 + 2304) * 1152
        + 27 * (1153 * 3 * 1152 + 1153 * 1152 + 1153 * 4304 + 4305 * 1152 + 4 * 1152)
        + 2 * 1152
        + 3 * 2 * 4608
        + 4 * (4609 * 4608 + 4609 * 4096),
        context=2000,
        cache=36 * 2 * 8 * 128 * 2 * 2000,
    ),
}


@pytest.mark.parametrize("name", RANKS)
def test_bytes_of_a_rank_by_hand(name, cluster, double):
    rank = RANKS[name]
    workload = Workload(3, rank.context - 100, 100)
    case = Scenario(load_model(name), cluster, workload, Parallelism(rank.tp, expert=rank.ep))
    with jax.disable_jit():  # each program would run once: to compile it takes longer
        memory = jobs_of(resolved(case)).memory
    assert float(memory.weights) == 2 * rank.parameters
    assert_close(memory.kv_cache, 3 * rank.cache, rtol=1e-15)
