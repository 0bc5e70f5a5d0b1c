"""Completion by the shell, asked for as bash does."""

import os
import subprocess
import sys

import pytest

from diffgenz.hardware.specs import list_systems

WITHOUT_JAX = """
import sys
sys.modules["jax"] = sys.modules["numpy"] = None
from diffgenz.ui.cli.main import main
main()
"""


def completions(line, folder):
    """What bash is told for a line with the cursor at its end, in a process without JAX."""
    answer = folder / "answer"
    asked = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    command = [sys.executable, "-c", WITHOUT_JAX]
    subprocess.run(command, env=os.environ | asked, cwd=folder, check=True, timeout=60)
    return [each.strip() for each in answer.read_text().split("\n") if each]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("diffgenz comp", ["compare"]),
        ("diffgenz estimate --sys", ["--system"]),
        ("diffgenz estimate X --system h100_s", ["h100_sxm"]),
        ("diffgenz estimate X --system a10 h100_s", ["h100_sxm"]),
        ("diffgenz estimate Qwen/Qwen3-30B-A", ["Qwen/Qwen3-30B-A3B"]),
        ("diffgenz requirements X --use-case cha", ["chat"]),
        ("diffgenz compare b.json --weights fp8_", ["fp8_block"]),
        ("diffgenz list sy", ["systems"]),
    ],
)
def test_commands_flags_and_values(line, expected, tmp_path):
    assert completions(line, tmp_path) == expected


def test_all_systems_or_files_that_begin_so(tmp_path):
    (tmp_path / "mychip.toml").touch()
    line = "diffgenz estimate X --system "
    assert completions(line, tmp_path) == list_systems()
    assert completions(f"{line}mych", tmp_path) == ["mychip.toml"]
