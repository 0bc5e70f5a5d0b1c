"""Whole estimates against an independent roofline, and float32 against float64."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import CHIP, FABRIC, NODE, as_double, assert_close, make_cluster

from diffgenz import HARD, Parallelism, Platform, Precision, Scenario, Serving, Workload, estimate
from diffgenz.hardware.platform import Accelerator
from diffgenz.models.blocks.attention import Attention
from diffgenz.models.blocks.mlp import MLP
from diffgenz.models.files import read_config
from diffgenz.models.model import Model, Repeated

WHOLE = Serving(chunk=None)
LLAMAS = ["meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B"]

PEAK, BANDWIDTH, LAUNCH = (
    CHIP["peak_flops"]["bf16"],
    CHIP["memory_bandwidth"],
    CHIP["launch_latency"],
)


class Roofline:
    """The hard roofline of a Llama in bf16 on `tp` chips of one node, from the physics alone.

    A kernel takes launch + max(FLOP / peak, B / bandwidth). All elements are 2 B; attention is
    causal and fused.
    """

    def __init__(self, name, tp, overlap=0.0):
        self.config, self.tp, self.overlap = read_config(name)[1], tp, overlap

    def gemm(self, rows, n, k):
        return LAUNCH + max(2 * rows * n * k / PEAK, 2 * (rows * k + k * n + rows * n) / BANDWIDTH)

    def stream(self, elements):
        return LAUNCH + 2 * elements / BANDWIDTH

    def attention(self, sequences, queries, past):
        heads, kv_heads, dim = self.shard
        pairs = sum(past + j for j in range(1, queries + 1))
        moved = 2 * sequences * (2 * queries * heads * dim + 2 * (past + queries) * kv_heads * dim)
        return LAUNCH + max(4 * sequences * heads * dim * pairs / PEAK, moved / BANDWIDTH)

    def collective(self, elements, passes):
        """All-reduce (2 passes) in two shots or in one, or all-gather (1 pass), over the node's
        switch."""
        if self.tp == 1:
            return 0.0
        latency, transfer = NODE["latency"], 2 * elements / NODE["bandwidth"]
        two_shot = passes * latency + passes * (self.tp - 1) / self.tp * transfer
        return LAUNCH + (
            min(two_shot, latency + (self.tp - 1) * transfer) if passes == 2 else two_shot
        )

    @property
    def shard(self):
        heads = self.config["num_attention_heads"]
        return (
            heads / self.tp,
            self.config["num_key_value_heads"] / self.tp,
            self.config["hidden_size"] / heads,
        )

    def iteration(self, sequences, queries, attention):
        """Seconds to put `queries` new tokens of each sequence through the model and to draw the
        next; `attention` is one layer's."""
        tokens, hidden, layers = (
            sequences * queries,
            self.config["hidden_size"],
            self.config["num_hidden_layers"],
        )
        width, vocabulary = self.config["intermediate_size"] / self.tp, self.config["vocab_size"]
        heads, kv_heads, dim = self.shard
        q, kv = heads * dim, kv_heads * dim
        layer = 2 * self.stream(4 * tokens * hidden)  # norms: x and residual in, both out
        layer += self.gemm(tokens, q + 2 * kv, hidden) + self.gemm(tokens, hidden, q)
        layer += (
            self.stream(tokens * (2 * (q + kv) + kv + 2 * kv)) + attention
        )  # rotate in place; read values; store keys and values
        layer += (
            self.gemm(tokens, 2 * width, hidden)
            + self.stream(3 * tokens * width)
            + self.gemm(tokens, hidden, width)
        )
        reduce = self.collective(tokens * hidden, 2)
        computing, communication = layers * layer, 2 * layers * reduce
        total = computing + communication - self.overlap * min(computing, communication)
        total += self.stream(2 * tokens * hidden) + reduce  # embedding
        total += self.stream(4 * sequences * hidden) + self.gemm(
            sequences, vocabulary / self.tp, hidden
        )
        return (
            total
            + LAUNCH
            + sequences * (2 * vocabulary + 4) / BANDWIDTH
            + self.collective(sequences * vocabulary, 1)
        )

    def ttft(self, batch, prompt):
        return self.iteration(batch, prompt, self.attention(batch, prompt, 0))

    def tpot(self, batch, prompt, output):
        """The mean over the generation, at three Gauss-Legendre nodes."""
        nodes, weights = np.polynomial.legendre.leggauss(3)
        pasts = prompt + output * (nodes + 1) / 2
        return self.iteration(
            batch,
            1,
            sum(
                w / 2 * self.attention(batch, 1, past)
                for w, past in zip(weights, pasts, strict=True)
            ),
        )


@pytest.mark.parametrize("name", LLAMAS)
def test_estimates_equal_an_independent_roofline(name, llama_8b, llama_70b, cluster):
    model = llama_8b if "8B" in name else llama_70b
    for tp, overlap in [(1, 0.0), (8, 0.0), (8, 0.4), (8, 1.0)]:
        for batch, prompt, output in [(1, 1, 1), (1, 4096, 512), (64, 512, 100), (700, 128, 33)]:
            workload, plan = Workload(batch, prompt, output), Parallelism(tp, overlap=overlap)
            now = estimate(Scenario(model, cluster, workload, plan, None, WHOLE, sharpness=HARD))
            reference = Roofline(name, tp, overlap)
            assert_close(now.ttft, reference.ttft(batch, prompt), rtol=2e-6)
            assert_close(now.tpot, reference.tpot(batch, prompt, output), rtol=2e-6)


def test_stages_without_waiting_cost_their_transfers_only(llama_8b, cluster):
    """One request never waits: every stage once, and a hop of one hidden state per boundary."""
    plain, piped = (
        estimate(Scenario(llama_8b, cluster, Workload(1, 300, 50), Parallelism(1, stages)))
        for stages in (1, 4)
    )
    hop = NODE["latency"] + 2 * 4096 / NODE["bandwidth"]
    assert_close(piped.tpot, plain.tpot + 3 * hop, rtol=1e-6)
    assert_close(
        piped.ttft,
        plain.ttft + 3 * (NODE["latency"] + 300 * 2 * 4096 / NODE["bandwidth"]),
        rtol=1e-6,
    )


def test_micro_batches_wait_for_the_slowest_stage(llama_8b, cluster):
    """Four requests on four stages are four micro-batches of one.

    The last stage has a quarter of the layers, and the head.
    """
    one, four = (
        estimate(
            Scenario(llama_8b, cluster, Workload(batch, 300, 50), Parallelism(1, 4), sharpness=HARD)
        )
        for batch in (1, 4)
    )
    roofline = Roofline("meta-llama/Llama-3.1-8B", 1)
    layerless = Roofline("meta-llama/Llama-3.1-8B", 1)
    layerless.config = roofline.config | {"num_hidden_layers": 0}
    embedding = {queries: LAUNCH + 2 * 2 * queries * 4096 / BANDWIDTH for queries in (1, 300)}

    def last_stage(whole, queries):
        ends = layerless.iteration(1, queries, 0.0)
        return (whole - ends) / 4 + ends - embedding[queries]

    assert_close(four.ttft, float(one.ttft) + 3 * last_stage(roofline.ttft(1, 300), 300), rtol=3e-6)
    assert_close(four.tpot, 4 * last_stage(roofline.tpot(1, 300, 50), 1), rtol=3e-6)


def random_numbers(count):
    """Integer sizes and plausible rates, a row each."""
    rng = np.random.default_rng(0)

    def integers(low, high):
        return np.exp(rng.uniform(np.log(low), np.log(high + 1), count)).astype(int)

    kv_heads = 2.0 ** rng.integers(3, 5, count)
    columns = {
        "heads": kv_heads * 2 ** rng.integers(0, 4, count),
        "kv_heads": kv_heads,
        "head_dim": rng.choice([64, 96, 128, 256], count),
        "hidden": 64 * integers(16, 256),
        "intermediate": 64 * integers(32, 1024),
        "vocabulary": integers(30_000, 260_000),
        "window": integers(128, 8192),
        "layers": integers(8, 120),
        "local": integers(1, 60),
        "batch": integers(1, 4096),
        "input": integers(1, 100_000),
        "output": integers(1, 10_000),
        "tensor": 2.0 ** rng.integers(0, 4, count),
        "pipeline": rng.integers(1, 9, count),
        "data": rng.integers(1, 5, count),
        "overlap": rng.random(count),
        "peak": 10 ** rng.uniform(14, 16, count),
        "bandwidth": 10 ** rng.uniform(12, 13.5, count),
        "launch": 10 ** rng.uniform(-7, -5, count),
        "link": 10 ** rng.uniform(10, 12, count),
        "fabric": 10 ** rng.uniform(9, 11, count),
        "latency": 10 ** rng.uniform(-7, -5, count),
    }
    return {name: np.asarray(column, np.float32) for name, column in columns.items()}


@eqx.filter_jit
@jax.vmap
def estimates(x):
    """The estimate of a configuration of which every number is given."""
    attention = Attention(heads=x["heads"], kv_heads=x["kv_heads"], head_dim=x["head_dim"])
    blocks = (
        Repeated(attention.replace(window=x["window"]), x["local"]),
        Repeated(attention, x["layers"]),
    )
    feed_forward = Repeated(MLP(intermediate=x["intermediate"]), x["layers"] + x["local"])
    model = Model("random", x["hidden"], x["vocabulary"], (*blocks, feed_forward))
    chip = Accelerator(
        **CHIP
        | {
            "peak_flops": {"bf16": x["peak"]},
            "memory_bandwidth": x["bandwidth"],
            "launch_latency": x["launch"],
        }
    )
    node, fabric = make_cluster().network
    network = (
        node.replace(bandwidth=x["link"], latency=x["latency"]),
        fabric.replace(bandwidth=x["fabric"], latency=FABRIC["latency"]),
    )
    plan = Parallelism(x["tensor"], x["pipeline"], x["data"], x["overlap"])
    workload = Workload(x["batch"], x["input"], x["output"])
    return estimate(
        Scenario(
            model,
            Platform(chip, network, 1024),
            workload,
            plan,
            Precision(weights="int4", kv_cache="fp8"),
        )
    )


def test_float32_is_as_good_as_float64():
    numbers = random_numbers(1000)
    single = estimates(numbers)
    with jax.enable_x64(True):
        double = estimates(as_double(numbers))
        assert double.ttft.dtype == jnp.float64
    assert single.ttft.dtype == jnp.float32
    assert_close(single, double, rtol=2e-6)
