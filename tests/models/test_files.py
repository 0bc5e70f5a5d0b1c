"""How models are found, and how files are read."""

import codecs
import json
import shutil
import subprocess
import sys

import pytest

from diffgenz.core.errors import InputError
from diffgenz.models.checkpoints import load_precision
from diffgenz.models.files import (
    FOLDER,
    demand_own_files,
    list_models,
    locate,
    read_config,
    read_object,
    read_sidecar,
)
from diffgenz.models.huggingface import load_model
from diffgenz.models.names import architecture

QWEN = "Qwen/Qwen3-8B"
CONFIG = (FOLDER / f"{QWEN}.json").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No models in Hugging Face's cache, which is in the folder returned."""
    for name in ("HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def snapshot(hub, model, revision, layers=36, main=True, **files):
    """A snapshot as huggingface_hub writes it: links to blobs."""
    folder = hub / f"models--{model.replace('/', '--')}"
    here = folder / "snapshots" / revision
    here.mkdir(parents=True)
    files = {"config": json.dumps(json.loads(CONFIG) | {"num_hidden_layers": layers})} | files
    for name, content in files.items():
        blob = folder / "blobs" / f"{revision}-{name}"
        blob.parent.mkdir(exist_ok=True)
        blob.write_text(content)
        (here / f"{name}.json").symlink_to(f"../../blobs/{blob.name}")
    if main:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(revision)
    return here


def written(folder, name="config.json", content=CONFIG):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + CONFIG.encode(),
        CONFIG.encode("utf-16"),
        CONFIG.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + CONFIG.encode("utf-16-be"),
        CONFIG.encode("utf-32"),
        CONFIG.replace("\n", "\r\n").encode(),
        b"\n\n" + CONFIG.encode() + b"\n\n",
    ],
    ids=["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "crlf", "blank lines"],
)
def test_files_are_read_in_the_encodings_that_json_has(content, tmp_path):
    path = written(tmp_path / "small", content=content)
    assert read_config(path) == ("small", json.loads(CONFIG))
    assert float(load_model(path).parameters) == float(load_model(QWEN).parameters)


def test_infinity_and_nan_are_numbers(tmp_path):
    text = CONFIG.replace("{", '{"time_step_limit": [0.0, Infinity], "x": [NaN, -Infinity],', 1)
    read = read_config(written(tmp_path, content=text))[1]
    assert read["time_step_limit"] == [0, float("inf")]
    assert read["x"][1] == -float("inf")

    config = json.loads(CONFIG) | {"hidden_size": float("inf")}
    path = written(tmp_path, content=json.dumps(config))
    with pytest.raises(InputError, match="hidden_size: inf is not"):
        load_model(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONFIG[: len(CONFIG) // 2], "is not valid JSON .* is it truncated"),
        (codecs.BOM_UTF8 + CONFIG[:100].encode(), "is not valid JSON .* is it truncated"),
        (CONFIG.encode("utf-16")[:101], "is not valid JSON .* is it truncated"),
        ("", "is not valid JSON"),
        (b"\x93\xfe\xff\x00\x80", "is not valid JSON"),
        ("[" * 100_000, "is nested too deeply"),
        ("[1, 2]", "holds no JSON object; give a Hugging Face config.json"),
        ("9" * 5000, "is not valid JSON"),
        (" " * 2**26 + "{}", "is too large for a config.json"),
    ],
)
def test_files_that_are_no_json_object_are_refused(content, message, tmp_path):
    path = written(tmp_path / "damaged", content=content)
    with pytest.raises(InputError, match=message) as error:
        read_config(path.parent)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=message):
        read_object(path)


def test_ids_have_any_case_and_may_lack_the_organisation():
    for name in list_models():
        assert locate(name) == locate(name.upper()) == locate(f" {name.lower()}/ ")
        assert (locate(name).name, locate(name).note) == (name, "")
        assert locate(name.partition("/")[2].lower()) == locate(name)


def test_a_bare_name_of_several_models_names_them(cache):
    snapshot(cache, "acme/Qwen3-8B", "a" * 40)
    with pytest.raises(InputError, match=r"'qwen3-8b' could be Qwen/Qwen3-8B or acme/Qwen3-8B; sa"):
        read_config("qwen3-8b")
    assert read_config("ACME/qwen3-8b")[0] == "acme/Qwen3-8B"
    snapshot(cache, "acme/Own-1B", "a" * 40)
    assert read_config("own-1b")[0] == "acme/Own-1B"


@pytest.mark.parametrize("where", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"])
def test_models_in_the_cache_are_found_by_id(where, tmp_path, monkeypatch):
    below = {"HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub"}
    below["HOME"] = ".cache/huggingface/hub"
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv(where, str(tmp_path / "here"))
    snapshot(tmp_path / "here" / below.get(where, ""), "acme/Own-1B", "a" * 40, layers=7)
    name, config = read_config("acme/own-1b")
    assert (name, config["num_hidden_layers"]) == ("acme/Own-1B", 7)
    assert load_model("acme/Own-1B").notes == ()


def test_the_snapshot_of_main_counts(cache):
    snapshot(cache, "acme/Own-1B", "f" * 40, layers=1, main=False)
    main = snapshot(cache, "acme/Own-1B", "a" * 40, layers=2)
    snapshot(cache, "acme/Own-1B", "b" * 40, layers=3, main=False)
    model = main.parents[1]
    assert read_config("acme/Own-1B")[1]["num_hidden_layers"] == 2
    assert read_config(model) == read_config("acme/Own-1B")

    (model / "refs" / "main").write_text("../../../elsewhere")
    assert read_config("acme/Own-1B")[1]["num_hidden_layers"] in (1, 2, 3)
    shutil.rmtree(model / "snapshots")
    with pytest.raises(InputError, match="models--acme--Own-1B has no config.json; add it"):
        read_config("acme/Own-1B")


def test_the_path_of_a_snapshot_has_the_name_of_its_model(cache, monkeypatch):
    here = snapshot(cache, "acme/Own--1B", "a" * 40, hf_quant_config='{"a": 1}')
    assert read_config(here)[0] == read_config(here / "config.json")[0] == "acme/Own--1B"
    assert read_config(f"{here}/")[0] == "acme/Own--1B"
    assert read_sidecar("acme/Own--1B", "hf_quant_config.json") == {"a": 1}
    monkeypatch.chdir(here)
    assert read_config("config.json")[0] == read_config(".")[0] == "acme/Own--1B"


def test_a_shipped_model_does_not_depend_on_the_cache(cache):
    snapshot(cache, QWEN, "a" * 40, layers=7)
    assert read_config("qwen3-8b") == (QWEN, json.loads(CONFIG))


def test_a_local_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / QWEN).mkdir(parents=True)
    assert read_config(QWEN) == (QWEN, json.loads(CONFIG))  # the folder has no config.json
    written(
        tmp_path / QWEN, content=CONFIG.replace('"num_hidden_layers": 36', '"num_hidden_layers": 3')
    )
    name, config = read_config(QWEN)
    assert (name, config["num_hidden_layers"]) == ("Qwen3-8B", 3)


ALIKE = {
    "Qwen/Qwen3-8B-AWQ": QWEN,
    "Qwen/Qwen3-8B-FP8": QWEN,
    "Qwen/Qwen3-8B-Base": QWEN,
    "qwen3-8b-gguf": QWEN,
    "RedHatAI/Qwen3-8B-FP8-dynamic": QWEN,
    "RedHatAI/Qwen3-8B-quantized.w4a16": QWEN,
    "mlx-community/Qwen3-8B-4bit": QWEN,
    "mlx-community/Qwen3-8B-4-bit": QWEN,
    "unsloth/Qwen3-8B-unsloth-bnb-4bit": QWEN,
    "bartowski/Qwen_Qwen3-8B-GGUF": QWEN,
    "Intel/Qwen3-8B-int4-AutoRound": QWEN,
    "unsloth/Qwen3-8B": QWEN,
    "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8": "Qwen/Qwen3-235B-A22B",
    "Qwen/Qwen3-VL-30B-A3B-Thinking": "Qwen/Qwen3-VL-30B-A3B-Instruct",
    "Qwen/Qwen3-30B-A3B-Thinking-2507": "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen2.5-72B-Instruct-GPTQ-Int4": "Qwen/Qwen2.5-72B",
    "Qwen/Qwen1.5-72B-Chat": "Qwen/Qwen1.5-72B",
    "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Llama-3.1-8B",
    "meta-llama/Llama-2-7b-chat-hf": "meta-llama/Llama-2-7b-hf",
    "meta-llama/Llama-2-7b": "meta-llama/Llama-2-7b-hf",
    "nvidia/Llama-3.1-70B-Instruct-FP8": "meta-llama/Llama-3.1-70B",
    "neuralmagic/Meta-Llama-3.1-70B-Instruct-FP8": "meta-llama/Llama-3.1-70B",
    "hugging-quants/Meta-Llama-3.1-405B-Instruct-AWQ-INT4": "meta-llama/Llama-3.1-405B",
    "casperhansen/llama-3.3-70b-instruct-awq": "meta-llama/Llama-3.3-70B-Instruct",
    "nvidia/DeepSeek-R1-0528-NVFP4-v2": "deepseek-ai/DeepSeek-R1",
    "deepseek-ai/DeepSeek-V3-0324": "deepseek-ai/DeepSeek-V3",
    "nvidia/DeepSeek-V3.1-NVFP4": "deepseek-ai/DeepSeek-V3.1",
    "deepseek-ai/DeepSeek-V2-Lite-Chat": "deepseek-ai/DeepSeek-V2-Lite",
    "TheBloke/Mixtral-8x7B-Instruct-v0.1-GPTQ": "mistralai/Mixtral-8x7B-v0.1",
    "mistralai/Mistral-7B-Instruct-v0.3": "mistralai/Mistral-7B-v0.3",
    "mistralai/Mistral-Nemo-Instruct-2407": "mistralai/Mistral-Nemo-Base-2407",
    "google/gemma-3-27b-it-qat-q4_0-gguf": "google/gemma-3-27b-it",
    "google/gemma-2-9b-it": "google/gemma-2-9b",
    "amd/Llama-3.1-8B-Instruct-FP8-KV": "meta-llama/Llama-3.1-8B",
}


@pytest.mark.parametrize("name", ALIKE)
def test_ids_that_differ_in_training_and_storage_have_the_shipped_sizes(name):
    base = ALIKE[name]
    note = f"{name} is not shipped: sizes of {base}; formats of a checkpoint need its files"
    assert locate(name) == (name, FOLDER / f"{base}.json", note)
    assert read_config(name) == (name, read_config(base)[1])
    assert read_sidecar(name, "config.json") is None


def test_what_is_known_of_another_model_is_said(tmp_path):
    model, base = load_model("RedHatAI/Qwen3-8B-FP8-dynamic"), load_model(QWEN)
    assert (model.name, float(model.parameters)) == (
        "RedHatAI/Qwen3-8B-FP8-dynamic",
        float(base.parameters),
    )
    (note,) = set(model.notes) - set(base.notes)
    assert note.startswith("RedHatAI/Qwen3-8B-FP8-dynamic is not shipped: sizes of Qwen/Qwen3-8B;")


def test_formats_of_a_checkpoint_need_its_own_files(cache):
    for name in ("nvidia/DeepSeek-V3.1-NVFP4", "qwen3-8b-awq", "meta-llama/Llama-3.1-8B-Instruct"):
        with pytest.raises(InputError, match=r"give the path of its config\.json or of its folder"):
            load_precision(name)
        with pytest.raises(InputError, match="is not shipped"):
            demand_own_files(name)
    demand_own_files("DeepSeek-V3.1")
    assert load_precision("deepseek-v3.1").weights == "fp8_block"

    fp8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    config = json.dumps(json.loads(CONFIG) | {"quantization_config": fp8})
    snapshot(cache, "Qwen/Qwen3-8B-FP8", "a" * 40, config=config)
    assert load_precision("qwen/qwen3-8b-fp8").weights == "fp8_block"
    assert load_model("qwen/qwen3-8b-fp8").notes == load_model(QWEN).notes


@pytest.mark.parametrize(
    "name",
    [
        "Llama-3.1-80B",
        "meta-llama/Llama-3.1-80B-Instruct",
        "meta-llama/Llama-3.1-8",
        "Qwen/Qwen3-9B-AWQ",
        "Qwen/Qwen3",
        "Qwen/Qwen3-30B",
        "Qwen/Qwen3-8B-Eagle3",
        "Qwen/Qwen3-30B-A3B-REAP-25",
        "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B",
        "mistralai/Mistral-7B-Instruct-v0.2",
        "microsoft/Phi-3-mini-128k-instruct",
        "Instruct",
        "AWQ",
    ],
)
def test_another_size_or_generation_is_never_taken(name):
    with pytest.raises(InputError, match=r"is not known.*the path of any config\.json"):
        read_config(name)


def test_the_nearest_names_are_proposed(cache):
    snapshot(cache, "acme/Own-1B", "a" * 40)
    with pytest.raises(InputError, match=r"did you mean .*Qwen/Qwen3-8B.*\(the path of any config"):
        read_config("Qwen/Qwen3-9B")
    with pytest.raises(InputError, match="did you mean .*acme/Own-1B"):
        read_config("acme/Own-2B")
    with pytest.raises(InputError, match="could be google/gemma-3-27b-it or google/gemma-3-27b-pt"):
        read_config("gemma-3-27b")


def test_shipped_models_have_architectures_of_their_own():
    found = {}
    for name in list_models():
        found.setdefault(architecture(name), []).append(name)
    pairs = [names for names in found.values() if len(names) > 1]
    for names in pairs:  # of one architecture indeed, each by its own name
        assert len({read_config(name)[1]["published_parameters"] for name in names}) <= 2, names
        assert all(locate(f"{name}-AWQ").path == locate(name).path for name in names)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("params.json", '{"dim": 4096}', "Mistral's own format; take the config.json"),
        ("adapter_config.json", "{}", "an adapter; give the model that it is for"),
        ("model_index.json", "{}", "a pipeline of diffusers"),
        ("tokenizer.json", "{}", "has no config.json; add it"),
    ],
)
def test_folders_without_a_config_are_refused(name, content, message, tmp_path):
    path = written(tmp_path / "model", name, content)
    with pytest.raises(InputError, match=message):
        read_config(path.parent)
    if name != "tokenizer.json":
        with pytest.raises(InputError, match=message):
            read_config(path)


@pytest.mark.parametrize("name", ["./x", "/x/y", "~/x", "a/b/c", "x/config.json", "x.json", "../x"])
def test_paths_where_nothing_is_are_refused(name):
    with pytest.raises(InputError, match="model: there is no file .*; give a config"):
        read_config(name)


@pytest.mark.parametrize(
    "name", ["x" * 5000, "x" * 300 + "/y", "a\0b", "~nobody-of-this-name/x", "%s", "?"]
)
def test_odd_names_are_refused_in_one_line(name):
    with pytest.raises(InputError, match="model: ") as error:
        read_config(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_refused(name, tmp_path, monkeypatch):
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="model: '' names none"):
        read_config(name)


def test_other_files_of_the_folder(tmp_path):
    written(tmp_path)
    assert read_sidecar(tmp_path, "hf_quant_config.json") is None
    written(tmp_path, "hf_quant_config.json", codecs.BOM_UTF8 + b'{"quantization": {}}')
    for model in (tmp_path, tmp_path / "config.json"):
        assert read_sidecar(model, "hf_quant_config.json") == {"quantization": {}}
    other = written(tmp_path, "other.json")
    assert read_sidecar(other, "hf_quant_config.json") is None  # beside a file of another name
    assert read_sidecar(QWEN, "Qwen3-4B.json") is None  # beside, but of another model
    written(tmp_path, "hf_quant_config.json", '{"quantization": {')
    with pytest.raises(InputError, match=r"hf_quant_config\.json is not valid JSON .* truncated"):
        read_sidecar(tmp_path, "hf_quant_config.json")


def test_files_are_read_without_jax():
    program = "import sys, diffgenz.models.files; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_the_formats_of_a_cached_checkpoint_may_stand_beside_its_config(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--org--Narrow-8B" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    config = read_config("Qwen/Qwen3-8B")[1]
    (folder / "config.json").write_text(json.dumps(config))
    sidecar = {"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    (folder / "hf_quant_config.json").write_text(json.dumps(sidecar))
    assert load_precision("org/Narrow-8B").weights == "fp8"
