"""Quantisation sections of every method, and the formats of each kind of module by hand."""

import pytest
from checkpoint_cases import read, written
from section_cases import CASES


@pytest.mark.parametrize("name", CASES)
def test_each_section_is_read(name, tmp_path):
    case = CASES[name]
    stored = read(written(tmp_path, case.section, case.config))[1]
    found = {
        key: "/".join(filter(None, (each.weights, each.activations)))
        for key, each in stored.formats.items()
    }
    wide = {key for key, each in found.items() if each == "bf16"}
    assert found == dict.fromkeys(wide, "bf16") | case.formats
    for key, size in case.sizes.items():
        assert stored.formats[key].weight_size == pytest.approx(size, rel=1e-9), key
    assert stored.kv_cache == case.kv_cache


@pytest.mark.parametrize("name", CASES)
def test_older_files_call_it_compression_config(name, tmp_path):
    case = CASES[name]
    new = read(written(tmp_path / "new", case.section, case.config))[1]
    old = read(written(tmp_path / "old", case.section, case.config, key="compression_config"))[1]
    assert new == old
