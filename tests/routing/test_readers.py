"""Each reader, on files in the documented format of its source; and on damaged twins of them."""

import base64
import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from routing_cases import TensorLike, drawn, torch_save

from diffgenz.core.errors import InputError
from diffgenz.routing.source import load_counts, load_trace, open_trace
from diffgenz.routing.trace import DECODE, PREFILL, Counts, Trace

IDS = drawn(5, 3, 8, 2)
"""A request of a prompt of three tokens and two generated ones: 3 layers, 2 of 8 experts."""

SHARED = Path(__file__).parents[2].parent / "shared" / "measurements" / "routing"


def base64_npy(ids):
    stream = io.BytesIO()
    np.save(stream, ids)
    return base64.b64encode(stream.getvalue()).decode()


def lines(path, *documents):
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def refused(path, message, **asked):
    with pytest.raises(InputError, match=message) as caught:
        load_trace(path, **asked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the package's own format ------------------------------------------------------------------


def whole():
    return Trace(
        experts=8,
        layers=(3, 4, 9),
        chosen=IDS,
        request=np.array([4, 4, 4, 9, 9]),
        phase=np.array([0, 0, 1, 0, 1]),
        domain=np.array([1, 1, 1, 0, 0]),
        domains=("code", "chat"),
        weights=np.linspace(0, 1, IDS.size).reshape(IDS.shape),
        rank=np.array([0, 0, 0, 7, 7]),
        step=np.array([5, 5, 6, 5, 7]),
        model="a/model",
    )


def test_a_saved_trace_comes_back(tmp_path):
    whole().save(tmp_path / "t.npz")
    back = load_trace(tmp_path / "t.npz")
    for name in ("chosen", "phase", "domain", "rank", "step", "weights"):
        np.testing.assert_array_equal(getattr(back, name), getattr(whole(), name))
    assert list(back.request) == [0, 0, 0, 1, 1]
    assert (back.experts, back.layers, back.model) == (8, (3, 4, 9), "a/model")
    assert back.domains == ("code", "chat")


def test_requests_are_brought_together_and_keep_their_time(tmp_path):
    trace = Trace(8, (0, 1, 2), IDS, request=np.array([1, 0, 1, 0, 1]))
    trace.save(tmp_path / "t.npz")
    back = load_trace(tmp_path / "t.npz")
    np.testing.assert_array_equal(back.chosen, IDS[[0, 2, 4, 1, 3]])
    assert list(back.request) == [0, 0, 0, 1, 1]
    assert back.step is not None
    assert list(back.step) == [0, 2, 4, 1, 3]


def test_chunks_are_the_whole(tmp_path, monkeypatch):
    ids = drawn(100, 3, 8, 2, seed=1)
    trace = Trace(8, (0, 1, 2), ids, request=np.repeat(np.arange(10), 10))
    trace.save(tmp_path / "t.npz")
    monkeypatch.setattr("diffgenz.routing.readers.npz.BLOCK", 90)
    monkeypatch.setattr("diffgenz.routing.source.BLOCK", 150)
    source = open_trace(tmp_path / "t.npz")
    assert not isinstance(source, Counts)
    chunks = list(source.chunks())
    assert len(chunks) > 3
    np.testing.assert_array_equal(np.concatenate([c.chosen for c in chunks]), ids)
    np.testing.assert_array_equal(np.concatenate([c.request for c in chunks]), trace.request)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_archive_is_refused(tmp_path, share):
    whole().save(tmp_path / "t.npz")
    data = (tmp_path / "t.npz").read_bytes()
    (tmp_path / "t.npz").write_bytes(data[: int(share * len(data))])
    refused(tmp_path / "t.npz", "is damaged or ends too early")


def test_a_pickled_array_is_not_read(tmp_path):
    np.savez(tmp_path / "t.npz", chosen=np.array([{"a": 1}], dtype=object))
    refused(tmp_path / "t.npz", "'chosen' holds pickled objects")


def test_arrays_of_other_names(tmp_path):
    np.savez_compressed(
        tmp_path / "t.npz", expert=IDS.astype(np.uint8), request=np.array([1, 1, 1, 2, 2])
    )
    trace = load_trace(tmp_path / "t.npz", experts=64)
    assert (trace.experts, trace.k, list(trace.requests)) == (64, 2, [0, 1])
    np.testing.assert_array_equal(trace.chosen, IDS)
    assert load_trace(tmp_path / "t.npz").experts == IDS.max() + 1
    refused(tmp_path / "t.npz", "expert 7 is out of range; 4 experts", experts=4)
    np.savez(tmp_path / "u.npz", other=np.ones(3))
    refused(tmp_path / "u.npz", "has other; a trace has 'chosen'")
    np.savez(tmp_path / "v.npz", expert=IDS, request=np.zeros(4, int))
    refused(tmp_path / "v.npz", "'request' has 4 rows, 'expert' has 5")


# --- lists of steps ----------------------------------------------------------------------------


def steps(ids=IDS, prompt=3, name="{}"):
    blocks = [ids[:prompt], *(ids[i : i + 1] for i in range(prompt, len(ids)))]
    return [
        {name.format(2 * i + 1): block[:, i].tolist() for i in range(ids.shape[1])}
        for block in blocks
    ]


@pytest.mark.parametrize("name", ["{}", "layer_{}", "model.layers.{}.mlp"])
@pytest.mark.parametrize("around", [lambda s: s, lambda s: [s], lambda s: {"r": s}])
def test_lists_of_steps(tmp_path, name, around):
    (tmp_path / "t.json").write_text(json.dumps(around(steps(name=name)), indent=1))
    trace = load_trace(tmp_path / "t.json", experts=8)
    np.testing.assert_array_equal(trace.chosen, IDS)
    assert trace.layers == (1, 3, 5)
    assert list(trace.phase) == [PREFILL] * 3 + [DECODE] * 2


def test_a_folder_of_steps_has_a_domain_for_each_folder(tmp_path):
    for domain in ("math", "chat"):
        (tmp_path / domain).mkdir()
        for number in range(2):
            (tmp_path / domain / f"{number}.json").write_text(json.dumps(steps()))
    trace = load_trace(tmp_path)
    assert trace.domains == ("chat", "math")
    assert len(trace.requests) == 4
    np.testing.assert_array_equal(trace.counts("domain")[0], trace.counts("domain")[1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s[1].pop("3"), "request 0, from line 1: step 1: has 2 layers, .* layer 3"),
        (lambda s: s[0]["1"].pop(), "step 0: has no .tokens, k. whole numbers"),
        (lambda s: s[1]["1"][0].pop(), "step 1: has no .tokens, k."),
        (lambda s: s[2].update({k: [[0]] for k in s[2]}), "step 2: has 1 experts per token"),
        (lambda s: s[2]["1"][0].__setitem__(0, -3), "expert -3 is out of range"),
        (lambda s: s[2]["1"][0].__setitem__(0, 99), "expert 99 is out of range; 8 experts"),
        (lambda s: s[2]["1"].__setitem__(0, [4, 4]), "has expert 4 twice"),
        (lambda s: s.append([]), "step 3: is list"),
    ],
)
def test_damaged_steps(tmp_path, damage, message):
    broken = steps()
    damage(broken)
    (tmp_path / "t.json").write_text(json.dumps(broken))
    refused(tmp_path / "t.json", message, experts=8)


def test_json_that_ends_too_early(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps(steps())[:-30])
    refused(tmp_path / "t.json", "is not JSON .* may end too early")
    lines(tmp_path / "t.jsonl", steps(), steps())
    text = (tmp_path / "t.jsonl").read_text()
    (tmp_path / "t.jsonl").write_text(text[:-30])
    refused(tmp_path / "t.jsonl", "line 2 is not JSON")


# --- responses ---------------------------------------------------------------------------------

USAGE = {"prompt_tokens": 3, "completion_tokens": 3}


def test_responses_of_vllm_0_21(tmp_path):
    response = {
        "model": "Qwen/Qwen3-30B-A3B",
        "usage": USAGE,
        "prompt_routed_experts": IDS[:3].tolist(),
        "choices": [{"routed_experts": IDS[3:].tolist()}],
    }
    wrapped = {"domain": "math", "response": response}
    trace = load_trace(lines(tmp_path / "t.jsonl", response, wrapped), experts=8)
    np.testing.assert_array_equal(trace.chosen, [*IDS, *IDS])
    assert list(trace.phase) == [0, 0, 0, 1, 1] * 2
    assert trace.domains == ("all", "math")
    assert trace.model == "Qwen/Qwen3-30B-A3B"


@pytest.mark.parametrize(
    "encoded",
    [
        base64_npy(IDS.astype(np.int16)),
        {
            "encoding": "base64",
            "dtype": "int16",
            "shape": [5, 3, 2],
            "data": base64.b64encode(IDS.astype("<i2").tobytes()).decode(),
        },
    ],
)
def test_later_responses_of_vllm(tmp_path, encoded):
    response = {"usage": USAGE, "choices": [{"routed_experts": encoded}]}
    trace = load_trace(lines(tmp_path / "t.jsonl", response))
    np.testing.assert_array_equal(trace.chosen, IDS)
    assert list(trace.phase) == [0, 0, 0, 1, 1]


def test_what_a_prefix_cache_held_is_missing_in_front(tmp_path):
    response = {"usage": USAGE, "choices": [{"routed_experts": base64_npy(IDS[1:])}]}
    trace = load_trace(lines(tmp_path / "t.jsonl", response))
    assert list(trace.phase) == [0, 0, 1, 1]


def test_responses_of_sglang(tmp_path):
    dense = np.zeros((5, 1, 2), int)  # a first layer without experts
    flat = np.concatenate([dense, IDS], axis=1).astype("<i4")
    meta = USAGE | {"routed_experts": base64.b64encode(flat.tobytes()).decode()}
    path = lines(tmp_path / "t.jsonl", {"text": "...", "meta_info": meta})
    trace = load_trace(path, k=2)
    np.testing.assert_array_equal(trace.chosen, IDS)
    assert trace.layers == (1, 2, 3)
    refused(path, "40 numbers without a shape; say how many experts")
    refused(path, "40 numbers are not 5 tokens of whole layers with 3 experts", k=3)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ({"choices": [{"routed_experts": base64_npy(IDS)}]}, "usage.prompt_tokens: is not there"),
        ({"usage": USAGE, "choices": [{"routed_experts": None}]}, "serve with --enable-return"),
        ({"usage": USAGE, "choices": [{"routed_experts": "%%"}]}, "cannot be decoded"),
        ({"usage": USAGE, "choices": [{"routed_experts": [[[1, 2]], [[1]]]}]}, "cannot be decoded"),
        (
            {"usage": USAGE, "choices": [{"routed_experts": base64_npy(IDS)[:-24]}]},
            "cannot be decoded",
        ),
        (
            {"usage": USAGE, "choices": [{"routed_experts": base64_npy(IDS / 2)}]},
            "cannot be decoded .shape .5, 3, 2. of float64",
        ),
        (
            {
                "usage": USAGE,
                "choices": [
                    {
                        "routed_experts": {
                            "dtype": "object",
                            "shape": [1],
                            "data": base64.b64encode(b"\0" * 8).decode(),
                        }
                    }
                ],
            },
            "no type of whole numbers",
        ),
    ],
)
def test_damaged_responses(tmp_path, response, message):
    good = {"usage": USAGE, "choices": [{"routed_experts": base64_npy(IDS)}]}
    refused(lines(tmp_path / "t.jsonl", good, response), f"line 2: .*{message}")


# --- route logs --------------------------------------------------------------------------------

META = {"type": "meta", "model_id": "Qwen/Qwen1.5-MoE-A2.7B-Chat", "top_k": 2, "num_experts": 8}


def routes(ids=IDS, request="r1", tokens=None):
    return [
        {
            "type": "route",
            "req_id": request,
            "token_idx": int(t if tokens is None else tokens[t]),
            "layer": layer,
            "topk_ids": ids[t, layer].tolist(),
            "topk_weights": [0.75, 0.25],
        }
        for layer in range(ids.shape[1])  # a layer logs all its tokens, then comes the next
        for t in range(len(ids))
    ]


def test_route_logs(tmp_path):
    trace = load_trace(lines(tmp_path / "t.jsonl", META, *routes(), *routes(request="r2")))
    np.testing.assert_array_equal(trace.chosen, [*IDS, *IDS])
    assert trace.experts == 8
    assert trace.model == META["model_id"]
    assert list(trace.requests) == [0, 1]
    assert trace.weights is not None
    assert trace.weights[0, 0].tolist() == [0.75, 0.25]


def test_token_numbers_that_begin_again_are_later_passes(tmp_path):
    passes = [routes(IDS[:3]), routes(IDS[3:4]), routes(IDS[4:])]
    trace = load_trace(lines(tmp_path / "t.jsonl", META, *passes[0], *passes[1], *passes[2]))
    np.testing.assert_array_equal(trace.chosen, IDS)
    assert list(trace.phase) == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: r.pop(4), "token 3 of request 'r1' has no row in layer 1|has no row in layer"),
        (lambda r: r[3]["topk_ids"].pop(), "has 1 in layer 0, the first row has 2"),
        (lambda r: r[3].pop("layer"), "line 5: has no layer, token_idx and topk_ids"),
        (lambda r: r[3]["topk_ids"].__setitem__(0, 8), "expert 8 is out of range; 8 experts"),
        (lambda r: r[3].update(phase="warm-up"), "phase: 'warm-up' is not known"),
        (lambda r: r[3].update(layer="first"), "line 5: has no layer"),
    ],
)
def test_damaged_route_logs(tmp_path, damage, message):
    records = routes()
    damage(records)
    refused(lines(tmp_path / "t.jsonl", META, *records), message)


# --- SGLang's recorder -------------------------------------------------------------------------


def record(ids, positions, lengths, mode, step, rank=0, **more):
    padded = np.full((ids.shape[1] + 1, len(ids), 8), -1, np.int32)  # layer 0 is dense
    padded[1:, :, : ids.shape[2]] = np.moveaxis(ids, 1, 0)
    return {
        "forward_pass_id": step,
        "rank": rank,
        "gatherer_key": "primary",
        "input_ids": [0] * len(ids),
        "positions": positions,
        "extend_seq_lens": lengths,
        "forward_mode": mode,
        "topk_ids_of_layer": TensorLike(padded),
        "misc_objects": [],
        **more,
    }


def dump(tmp_path, monkeypatch, records, copies=8):
    mapping = np.tile(np.arange(copies) % 8, (4, 1))
    content = {"records": records, "last_physical_to_logical_map": TensorLike(mapping)}
    return torch_save(tmp_path / "t.pt", content, monkeypatch)


def test_a_dump_of_tokens(tmp_path, monkeypatch):
    one, two = drawn(5, 3, 8, 2, 1), drawn(4, 3, 8, 2, 2)
    records = [
        record(np.concatenate([one[:3], two[:2]]), [0, 1, 2, 0, 1], [3, 2], 1, 10),
        record(np.stack([one[3], two[2]]), [3, 2], None, 2, 11),
        record(np.stack([one[4], two[3]]), [4, 3], None, 2, 12),
    ]
    trace = load_trace(dump(tmp_path, monkeypatch, records))
    assert trace.layers == (1, 2, 3)
    np.testing.assert_array_equal(trace.chosen, [*one, *two])
    assert list(trace.request) == [0] * 5 + [1] * 4
    assert list(trace.phase) == [0, 0, 0, 1, 1, 0, 0, 1, 1]
    assert trace.step is not None
    assert list(trace.step) == [10, 10, 10, 11, 12, 10, 10, 11, 12]


def test_a_prompt_in_chunks_and_requests_that_end(tmp_path, monkeypatch):
    one, two = drawn(6, 3, 8, 2, 1), drawn(3, 3, 8, 2, 2)
    records = [
        record(one[:2], [0, 1], [2], 1, 0),
        record(one[2:4], [2, 3], [2], 1, 1),  # the same prompt goes on
        record(one[4:5], [4], None, 2, 2),
        record(two[:1], [0], [1], 1, 3),
        record(np.stack([one[5], two[1]]), [5, 1], None, 2, 4),
        record(two[2:3], [2], None, 2, 5),  # the first has ended
    ]
    trace = load_trace(dump(tmp_path, monkeypatch, records))
    np.testing.assert_array_equal(trace.chosen, [*one, *two])
    assert list(trace.phase) == [0] * 4 + [1] * 2 + [0, 1, 1]


def test_copies_are_counted_as_their_expert(tmp_path, monkeypatch):
    ids = IDS.copy()
    ids[:, :, 0] = ids[:, :, 0] + 8  # physical experts 8 to 15 are copies of 0 to 7
    trace = load_trace(dump(tmp_path, monkeypatch, [record(ids, [*range(5)], [5], 1, 0)], 16))
    np.testing.assert_array_equal(trace.chosen, IDS)
    assert trace.experts == 8


def test_padding_is_left_out(tmp_path, monkeypatch):
    ids = np.concatenate([IDS, np.full((2, 3, 2), -1)])
    trace = load_trace(dump(tmp_path, monkeypatch, [record(ids, [*range(7)], [7], 1, 0)]))
    np.testing.assert_array_equal(trace.chosen, IDS)


def test_a_dump_of_counts(tmp_path, monkeypatch):
    counts = np.random.default_rng(0).integers(1, 9, (6, 4, 8)).astype(np.int32)
    counts[:, 0] = 0  # dense
    counts[4:] = 0  # the buffer's rest
    content = {
        "rank": 0,
        "logical_count": TensorLike(counts),
        "average_utilization_rate_over_window": None,
    }
    found = load_counts(torch_save(tmp_path / "t.pt", content, monkeypatch))
    np.testing.assert_array_equal(found.counts, counts[:4, 1:])
    assert (found.by, found.layers) == ("step", (1, 2, 3))
    refused(tmp_path / "t.pt", "holds counts, not tokens")


def test_a_dump_of_passes(tmp_path, monkeypatch):
    counts = np.random.default_rng(0).integers(1, 9, (3, 4, 16)).astype(np.int32)
    records = [
        {"forward_pass_id": i, "rank": 0, "global_physical_count": TensorLike(c)}
        for i, c in enumerate(counts)
    ]
    found = load_counts(dump(tmp_path, monkeypatch, records, copies=16))
    np.testing.assert_array_equal(found.counts, counts[..., :8] + counts[..., 8:])


@pytest.mark.parametrize("order", ["little", "big"])
def test_a_tensor_alone_is_a_load_matrix(tmp_path, monkeypatch, order):
    weight = np.arange(1.0, 25.0).reshape(3, 8)
    path = torch_save(tmp_path / "t.pt", TensorLike(weight), monkeypatch, order)
    np.testing.assert_array_equal(load_counts(path).counts[0], weight)
    view = TensorLike(weight, offset=1, size=(3, 4), stride=(8, 2))
    path = torch_save(tmp_path / "v.pt", view, monkeypatch, order)
    np.testing.assert_array_equal(load_counts(path).counts[0], weight[:, 1::2])


class Harmful:
    """Runs a command where it is unpickled."""

    def __reduce__(self):
        return eval, ("print('harm')",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch, capsys):
    for content in (Harmful(), {"records": [Harmful()]}, {"logical_count": Harmful()}):
        path = torch_save(tmp_path / "t.pt", content, monkeypatch)
        refused(path, "its pickle names (builtins|__builtin__).eval, which a trace does not need")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Harmful()))
    refused(tmp_path / "bare.pt", "is no whole zip archive")
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps([1, 2, 3]))
    refused(tmp_path / "bare.pkl", "no reader knows this file")
    assert "harm" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": TensorLike(np.ones(3))}, "holds weights; a dump of SGLang's recorder has"),
        ([1, 2], "holds list"),
        ({"records": []}, "has no records"),
        ({"records": [{"rank": 0}]}, "neither topk_ids_of_layer nor"),
        ({"logical_count": TensorLike(np.zeros((2, 3, 4)))}, "are all zero"),
        ({"logical_count": TensorLike(np.ones(4))}, r"have shape \[4\]"),
        (TensorLike(np.ones((2, 3)), size=(2, 4)), "reaches beyond its storage"),
        (TensorLike(np.ones((2, 3)), offset=-1), "reaches beyond its storage"),
        ({"records": [record(IDS, [0, 1], [2], 1, 0)]}, "5 tokens and the positions of 2"),
    ],
)
def test_dumps_that_are_none(tmp_path, monkeypatch, content, message):
    refused(torch_save(tmp_path / "t.pt", content, monkeypatch), message)


def test_damaged_dumps(tmp_path, monkeypatch):
    ids = IDS.copy()
    ids[0, 1, 0] = 9
    path = dump(tmp_path, monkeypatch, [record(ids, [*range(5)], [5], 1, 0)])
    refused(path, "physical expert 9 is out of range; last_physical_to_logical_map has 8")
    ids[0, 1, 0] = -1
    path = dump(tmp_path, monkeypatch, [record(ids, [*range(5)], [5], 1, 0)])
    refused(path, "token 0 has fewer experts than others in layer 2")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    refused(path, "is no whole zip archive")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", data[:50])
    refused(path, "is damaged|names")


# --- tables ------------------------------------------------------------------------------------


def csv_of(header, rows):
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"


PAIRS = [(layer, t) for t in range(5) for layer in range(3)]


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("layer,token,experts", lambda n, t: [(n, t, " ".join(map(str, IDS[t, n])))]),
        ("layer,token,experts", lambda n, t: [(n, t, f'"[{IDS[t, n, 0]}, {IDS[t, n, 1]}]"')]),
        ("layer_id,token_id,topk_ids", lambda n, t: [(n, t, ";".join(map(str, IDS[t, n])))]),
        ("token,layer,expert_0,expert_1", lambda n, t: [(t, n, *IDS[t, n])]),
        ("layer,token,expert", lambda n, t: [(n, t, e) for e in IDS[t, n]]),
    ],
)
def test_tables_of_tokens(tmp_path, header, row, by_layer):
    pairs = sorted(PAIRS) if by_layer else PAIRS
    rows = [each for layer, t in pairs for each in row(layer, t)]
    (tmp_path / "t.csv").write_text(csv_of(header, rows))
    trace = load_trace(tmp_path / "t.csv", experts=8)
    np.testing.assert_array_equal(trace.chosen, IDS)


def test_a_table_with_all_columns(tmp_path):
    header = "request,domain,phase,step,layer,token,experts,weights"
    rows = [
        (f"r{t // 3}", "code" if t < 3 else "chat", "prefill", t, layer, t, "3 4", "0.5 0.5")
        for layer, t in PAIRS
    ]
    (tmp_path / "t.csv").write_text(csv_of(header, rows))
    trace = load_trace(tmp_path / "t.csv")
    assert list(trace.request) == [0, 0, 0, 1, 1]
    assert trace.domains == ("code", "chat")
    assert not trace.phase.any()
    assert trace.step is not None
    assert trace.weights is not None
    assert list(trace.step) == [*range(5)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer,token,experts\n0,0,1 2\n0,1,1\n", "line 3: experts: token 1 has 1 in layer 0"),
        ("layer,token,experts\n0,0,1 2\n1,0,1 2\n0,1,3 4\n", "token 1 .* no row in layer 1"),
        ("layer,token,experts\n0,0,1 1\n", "has expert 1 twice"),
        ("layer,token,experts\n0,0,1 -2\n", "expert -2 is out of range"),
        ("layer,token,experts\n0,0,1 x\n", "line 2: .*may end too early"),
        ("layer,token,experts\n0,0\n", "line 2: .*may end too early"),
        ("layer,token,experts\n", "has no rows"),
        ("layer,experts\n0,1 2\n", "has columns layer, experts; give layer, token, experts"),
        ("layer,token,mood\n0,1,good\n", "has columns layer, token, mood; give experts"),
        ("1,2,3\n1,2\n", "rows have 2 to 3 cells"),
        ("1,2,3\n1,2,x\n", "a matrix of counts has numbers only"),
        ("0,0,0\n0,0,0\n", "are all zero"),
        ("1,2,-3\n", "one is negative"),
        ("layer,expert,count\n0,1\n", "each row has layer, expert and count"),
        ("", "is empty"),
    ],
)
def test_damaged_tables(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    refused(tmp_path / "t.csv", message)


COUNTED = np.arange(1.0, 25.0).reshape(3, 8)


def test_matrices_of_counts(tmp_path):
    np.savetxt(tmp_path / "m.csv", COUNTED, delimiter=",", fmt="%d")
    np.save(tmp_path / "m.npy", COUNTED.astype(np.int64))
    np.savez(tmp_path / "m.npz", counts=COUNTED)
    (tmp_path / "m.json").write_text(json.dumps(COUNTED.tolist()))
    (tmp_path / "s.json").write_text(json.dumps({"logical_count": COUNTED.tolist()}))
    rows = [(i, j, COUNTED[i, j]) for i in range(3) for j in range(8)]
    (tmp_path / "long.csv").write_text(csv_of("layer_id,expert_id,count", rows))
    for path in sorted(tmp_path.iterdir()):
        found = load_counts(path)
        np.testing.assert_array_equal(found.counts, COUNTED[None], err_msg=str(path))
        assert found.by == "all"
    with pytest.raises(InputError, match="16 are asked for, the file counts 8"):
        load_counts(tmp_path / "m.npy", experts=16)


def test_an_array_of_steps_and_one_of_ids(tmp_path):
    counts = np.zeros((5, 3, 8), np.int64)
    np.add.at(counts, (np.arange(5)[:, None, None], np.arange(3)[:, None], IDS), 7)
    np.save(tmp_path / "counts.npy", counts)
    np.save(tmp_path / "ids.npy", IDS)
    np.testing.assert_array_equal(load_counts(tmp_path / "counts.npy").counts, counts)
    np.testing.assert_array_equal(load_trace(tmp_path / "ids.npy").chosen, IDS)
    np.save(tmp_path / "flat.npy", np.ones(3))
    refused(tmp_path / "flat.npy", r"has shape \[3\]")
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object))
    refused(tmp_path / "pickled.npy", "is damaged")
    data = (tmp_path / "ids.npy").read_bytes()
    (tmp_path / "ids.npy").write_bytes(data[:-8])
    refused(tmp_path / "ids.npy", "is damaged or ends too early")


def test_counts_by_domain(tmp_path):
    by_domain = {"code": COUNTED.tolist(), "chat": (2 * COUNTED).tolist()}
    model = {"experts": 8, "top_k": 2, "domains": by_domain}
    (tmp_path / "c.json").write_text(json.dumps({"models": {"a": model, "b": model}}))
    found = load_counts(tmp_path / "c.json", model="b")
    assert (found.groups, found.by, found.k, found.model) == (("code", "chat"), "domain", 2, "b")
    with pytest.raises(InputError, match="the file has a, b; say which with --model"):
        load_counts(tmp_path / "c.json")
    by_domain["chat"] = np.zeros((3, 8)).tolist()
    (tmp_path / "c.json").write_text(json.dumps({"models": {"a": model}}))
    with pytest.raises(InputError, match="chat has no counts; leave out empty domains"):
        load_counts(tmp_path / "c.json")
    by_domain["chat"] = [[1.0, 2.0]]
    (tmp_path / "c.json").write_text(json.dumps({"models": {"a": model}}))
    with pytest.raises(InputError, match="domains differ in layers or experts"):
        load_counts(tmp_path / "c.json")


# --- files together ----------------------------------------------------------------------------


def test_files_of_different_models_do_not_go_together(tmp_path):
    whole().save(tmp_path / "a.npz")
    other = Trace(8, (3, 4), IDS[:, :2], request=np.zeros(5))
    other.save(tmp_path / "b.npz")
    refused([tmp_path / "a.npz", tmp_path / "b.npz"], "give traces of one model")
    Trace(16, (3, 4, 9), IDS, request=np.zeros(5)).save(tmp_path / "c.npz")
    refused([tmp_path / "a.npz", tmp_path / "c.npz"], "has 16 experts, the others 8")
    refused(tmp_path / "a.npz", "64 are asked for, the file has 8", experts=64)
    refused(tmp_path / "a.npz", "k: 4 is asked for, the trace has 2", k=4)


def test_files_that_are_no_traces(tmp_path):
    refused(tmp_path / "none.npz", "cannot read .*none.npz")
    (tmp_path / "text.md").write_text("# hello")
    refused(tmp_path / "text.md", "no reader knows this file")
    (tmp_path / "empty.json").write_text("")
    refused(tmp_path / "empty.json", "is empty")
    (tmp_path / "other.json").write_text('{"hello": 1}')
    refused(tmp_path / "other.json", "holds hello; known are")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "no file in this folder is a trace")


@pytest.mark.skipif(not SHARED.exists(), reason="the measurements are not here")
def test_real_traces():
    trace = load_trace(SHARED / "deepseek_v2_lite_puffin.npz")
    assert (trace.tokens, len(trace.layers), trace.k, trace.experts) == (114354, 26, 6, 64)
    assert len(trace.requests) == 1200
    counts = load_counts(SHARED / "expert_counts_by_domain.json", model="allenai/OLMoE-1B-7B-0924")
    assert counts.counts.shape[1:] == (3, 64)
