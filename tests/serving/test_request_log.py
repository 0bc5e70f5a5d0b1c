"""Logs of requests, as public traces and people write them."""

import json

import numpy as np
import pytest

from diffgenz import InputError, read_requests

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9305900,396,109

2023-11-16 19:15:46.6805900,879,55
"""
BURST = "Timestamp,Model,Request tokens,Response tokens\n5,ChatGPT,374,44\n9.25,GPT-4,396,109\n"
BURST += "3605,GPT-4,879,55\n"
VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n0,374,44\n4.25,396,109\n3600,879,55\n"
MOONCAKE = "\n".join(
    json.dumps({"timestamp": at, "input_length": i, "output_length": o, "hash_ids": [1]})
    for at, i, o in ((1000, 374, 44), (5250, 396, 109), (3601000, 879, 55))
)
OWN = "\n".join(
    json.dumps({"arrival": at, "prompt_tokens": i, "output_tokens": o})
    for at, i, o in ((0, 374, 44), (4.25, 396, 109), ("3600", 879, 55.0))
)
LOGS = [AZURE, BURST, VIDUR, MOONCAKE, OWN, "\ufeff" + AZURE]


@pytest.mark.parametrize("text", LOGS)
def test_logs_are_read_whatever_they_call_their_columns(text, tmp_path):
    path = tmp_path / "log"
    path.write_text(text, encoding="utf-8")
    found = read_requests(path)
    np.testing.assert_allclose(found.arrivals, [0, 4.25, 3600], atol=1e-6)
    assert found.prompts.tolist() == [374, 396, 879]
    assert found.outputs.tolist() == [44, 109, 55]
    assert len(read_requests(path, most=2).arrivals) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no requests"),
        ("arrival,prompt_tokens,output_tokens\n", "no requests"),
        ("arrival,prompt_tokens\n1,2\n", "line 2: output tokens: no such column among arrival"),
        ("arrival,prompt_tokens,output_tokens\n1,2\n", "line 2: output tokens: no such column"),
        ("arrival,prompt_tokens,output_tokens\nsoon,2,3\n", "line 2: arrival: 'soon' is neither"),
        ("arrival,prompt_tokens,output_tokens\nnan,2,3\n", "line 2: arrival: 'nan' is neither"),
        ("arrival,prompt_tokens,output_tokens\n1,2,3\n-1,2,3\n", "line 3: arrival: '-1' is"),
        ("arrival,prompt_tokens,output_tokens\n1,2.5,3\n", "prompt tokens: '2.5' is no whole"),
        ("arrival,prompt_tokens,output_tokens\n1,2,0\n", "output tokens: '0' is no whole"),
        ('{"arrival": 1, "prompt_tokens": true, "output_tokens": 2}', "prompt tokens: True is no"),
        ('{"arrival": 1, "prompt_tokens": 4, "output_tokens": 2}\n[1]', "line 2: no JSON object"),
        ('{"arrival": 1,\n', "line 1: no JSON object"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, said, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_requests(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: cannot be read \(No such file"):
        read_requests(tmp_path / "nowhere")
    (tmp_path / "log").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"cannot be read \(no UTF-8\)"):
        read_requests(tmp_path / "log")
