"""What tests of readers share: writing a file, reading it, and what its samples say."""

from pathlib import Path

import numpy as np

from diffgenz.calibrating.readers.registry import samples_of

SHARED = Path(__file__).resolve().parents[2] / "shared" / "measurements" / "ops"
REPORTS = SHARED.parents[1] / "reports"


def write(folder, name, header, *rows):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*([header] if header else []), *rows]) + "\n")
    return path


def read(path):
    return [samples for _, samples in samples_of([path])]


def columns(samples):
    """Its rows: the shape's numbers by name, lists."""
    return {name: np.asarray(column).tolist() for name, column in samples.shape._asdict().items()}


def said(samples):
    return samples.family, samples.format, samples.source, samples.kernel


VIDUR = ["attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj"]

VIDUR_HEADER = ",".join(
    [
        *(f"time_stats.{name}.median" for name in [*VIDUR, "mlp_act", "add"]),
        "n_head,n_kv_head,n_embd,n_expanded_embd,vocab_size,use_gated_mlp,num_tokens,num_tensor_parallel_workers",
    ]
)

APEX = "gpu,num_nodes,num_gpus_per_node,dtype,size(kb),time(us)"

NCCL = """# nccl-tests version 2.17.6 nccl-headers=22806 nccl-library=22806
# Collective test starting: ./build/{test}
# nThread 1 nGpus 2 minBytes 8 maxBytes 1024 step: 2(factor) warmup iters: 1 iters: 20 agg iters: 1 validation: 1 graph: 0
#
# Using devices
#  Rank  0 Group  0 Pid   4242 on      alpha device  0 [0000:04:00] NVIDIA H100 80GB HBM3
#  Rank  1 Group  0 Pid   4242 on      {host} device  1 [0000:05:00] NVIDIA H100 80GB HBM3
#
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
           0             0  {type}     sum      -1     5.00    0.00    0.00      0     5.00    0.00    0.00      0
alpha:4242:4250 [0] NCCL INFO a line of the library's own
         512           256  {type}     sum      -1    12.50    0.04    0.04      0    11.00    0.05    0.05    N/A
        1024           512  {type}     sum      -1    14.50    0.07    0.07      3    13.00    0.08    0.08      0
# Out of bounds values : 0 OK
# Avg bus bandwidth    : 0.06
"""


def nccl(folder, test="all_reduce_perf", host="alpha", type="bfloat16", old="", new=""):
    path = folder / "run.txt"
    path.write_text(NCCL.format(test=test, host=host, type=type).replace(old, new))
    return path
