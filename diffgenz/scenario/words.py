"""The words that say a scenario, each once: the flags of commands and the keys of space files.

Nothing here imports JAX, so that `diffgenz --help` is quick. `from_words` makes a scenario of the
words.
"""

from collections.abc import Mapping
from typing import Any

from diffgenz.core.errors import unknown
from diffgenz.kernels.software import DEFAULT
from diffgenz.scenario.word import Word

CHECKPOINT = "checkpoint"
"""The value of `weights` that takes the formats that the checkpoint is in."""

GEAR = (
    "gear-CORE[:OUTLIERS[:RANK]], GEAR with a share of outliers and a rank (gear-int4: 0.02 and 4)"
)
"""How people write a compressed KV cache, for the help text."""

CHUNK = 8192
"""Prompt tokens of an iteration by default: the token budget of vLLM's server (its default
`--max-num-batched-tokens`) and of SGLang (`--chunked-prefill-size`) on accelerators of 70 GB and
more; both take less on smaller ones."""

UTILIZATION = 0.9
"""The share of an accelerator's memory that vLLM takes by default (`--gpu-memory-utilization`)."""

_FORMATS = "fp32, bf16, fp16, fp8, fp8_block, int8, mxfp4, nvfp4, int4, ..."

WORDS = {
    word.name: word
    for word in (
        Word(
            "model",
            str,
            "model",
            "a Hugging Face id (see `diffgenz list models`), or a config.json or its folder",
            is_file=True,
        ),
        Word(
            "generic",
            bool,
            "model",
            "read a config.json whose model_type or fields are not modelled by the standard names "
            "of fields, and say what was assumed and left out",
            False,
        ),
        Word(
            "system",
            str,
            "platform.accelerator",
            "an accelerator (see `diffgenz list systems`), or a TOML file",
            is_file=True,
        ),
        Word(
            "gpus",
            int,
            "platform.accelerators",
            "accelerators (default: what tp, cp, attention-dp, pp and dp use)",
        ),
        Word(
            "tp",
            int,
            "plan.tensor",
            "tensor-parallel ranks (default: the accelerators that the others leave)",
        ),
        Word(
            "pp",
            int,
            "plan.pipeline",
            "pipeline stages (default: 1)",
            1,
        ),
        Word(
            "dp",
            int,
            "plan.data",
            "replicas that share the batch (default: 1)",
            1,
        ),
        Word(
            "ep",
            int,
            "plan.expert",
            "groups that hold different experts, of the tp x cp x attention-dp ranks (default: 1)",
            1,
        ),
        Word(
            "imbalance",
            float,
            "routing",
            "rows of the fullest rank of experts and messages of the busiest node, over their "
            "means, with --ep: short for a --routing of rows, pair and wire (default: 1)",
        ),
        Word(
            "cp",
            int,
            "plan.context",
            "context-parallel ranks, which share each sequence and its KV cache (default: 1)",
            1,
        ),
        Word(
            "sp",
            bool,
            "plan.sequence",
            "sequence parallelism: the tp ranks share norms and the residual stream, too",
            False,
        ),
        Word(
            "attention-dp",
            int,
            "plan.attention_data",
            "groups that share requests but for the experts: DP attention (default: 1)",
            1,
        ),
        Word(
            "dtype",
            str,
            "precision.dtype",
            "format of hidden states and attention (default: bf16, or fp16 where the accelerator "
            f"multiplies no bf16); one of {_FORMATS}",
        ),
        Word(
            "weights",
            str,
            "precision.weights",
            "format of the linear layers' weights, or checkpoint: as its config.json says, and "
            "activations (default: dtype)",
        ),
        Word(
            "activations",
            str,
            "precision.activations",
            "format of the linear layers' inputs, which sets their arithmetic (default: dtype)",
        ),
        Word(
            "modules",
            str,
            "precision.modules",
            "formats of kinds of layers of their own: attention, mlp, experts, head, or a row of "
            "the breakdown, such as attention=fp8,mlp=int4/bf16 (weights/activations)",
        ),
        Word(
            "kv-cache",
            str,
            "precision.kv_cache",
            f"format of keys and values, or {GEAR} (default: dtype)",
        ),
        Word(
            "messages",
            str,
            "precision.messages",
            "format of what all-reduces, pipeline stages and combining experts send "
            "(default: dtype)",
        ),
        Word(
            "overlap",
            float,
            "plan.overlap",
            "share of communication hidden behind computing, 0 to 1 (default: 0)",
            0.0,
        ),
        Word(
            "chunk",
            int,
            "serving.chunk",
            "chunked prefill: prompt tokens of one iteration, or whole: prompts at once "
            f"(default: {CHUNK})",
            CHUNK,
            off="whole",
            tokens=True,
        ),
        Word(
            "mixed",
            bool,
            "serving.mixed",
            "the time between tokens while each iteration carries a chunk of prompts, too",
            False,
            switches=True,
        ),
        Word(
            "prefix-hit",
            float,
            "serving.prefix_hit",
            "prefix caching: share of each prompt that is in the KV cache already, 0 to 1 "
            "(default: 0)",
        ),
        Word(
            "drafts",
            float,
            "serving.speculation.drafts",
            "speculative decoding: tokens proposed for each verification (default: none)",
        ),
        Word(
            "acceptance",
            float,
            "serving.speculation.acceptance",
            "probability that a proposed token is accepted, 0 to 1; required with --drafts",
        ),
        Word(
            "draft-model",
            str,
            "serving.speculation.draft.model",
            'the model that proposes, on the same accelerators, or "mtp", its own '
            "multi-token-prediction module (default: n-grams, free)",
            is_file=True,
        ),
        Word(
            "draft-system",
            str,
            "serving.speculation.draft.platform",
            "accelerators of its own for the draft model, one for each attention group "
            "(default: the model's)",
            is_file=True,
        ),
        Word(
            "beams",
            int,
            "serving.beams",
            "beam search: sequences decoded for each request (default: 1, or the use case's)",
        ),
        Word(
            "offload",
            str,
            "serving.offload",
            "what lives in slower memory where the main one is full (default: nothing)",
            choices=("weights", "kv-cache"),
        ),
        Word(
            "routing",
            str,
            "routing",
            "which experts tokens go to: uniform, power-law:SPREAD, or a .toml or .json file of "
            "what a trace says (rows, dispersion, variation, far, near, remote, pair, wire, "
            "slots); of estimate, search and sensitivity also a trace or a preset of one "
            "(default: uniform)",
            is_file=True,
        ),
        Word(
            "memory-utilization",
            float,
            "serving.memory_utilization",
            "share of each accelerator's memory that the server may use, above 0 to 1 "
            f"(default: {UTILIZATION})",
            UTILIZATION,
        ),
        Word(
            "sharpness",
            str,
            "sharpness",
            "overlap of compute and memory: 1 (none), 2, 4, 8, or hard (the exact roofline) "
            "(default: 8)",
            "8",
        ),
        Word(
            "fit",
            str,
            "platform.accelerator.kernels",
            "what times kernels: those measured of trtllm, vllm or sglang, like:SYSTEM for those "
            "of another accelerator, a file that `diffgenz calibrate` wrote, or none: the "
            f"roofline, a bound (default: {DEFAULT})",
            DEFAULT,
            is_file=True,
        ),
        Word(
            "isl",
            int,
            "workload.input_tokens",
            "input sequence length, tokens; 4k is 4096 (default: 1024)",
            1024,
            tokens=True,
        ),
        Word(
            "osl",
            int,
            "workload.output_tokens",
            "output sequence length, tokens (default: 128)",
            128,
            tokens=True,
        ),
        Word(
            "images",
            int,
            "workload.images",
            "images in each prompt, on top of isl; for models with a vision tower (default: 0)",
            0,
        ),
        Word(
            "batch",
            int,
            "workload.batch",
            "requests in flight (default: 1)",
            1,
        ),
    )
}
"""Every word by name, in the order of `--help`.

A new word is a row here. Its meaning goes into `from_words` where this row cannot say it.
"""


def read_words(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all words: those that are given, and the defaults of the others.

    Arguments:
        given: values by word. A word may have underscores in the place of its dashes, and None
            stands for its default.

    Raises:
        InputError: an unknown word, or a value that is not of its kind.
    """
    values = {name: word.default for name, word in WORDS.items()}
    for key, value in given.items():
        name = key.replace("_", "-")
        if name not in WORDS:
            raise unknown("word", key, WORDS)
        if value is not None:
            values[name] = WORDS[name].read(value)
    return values
