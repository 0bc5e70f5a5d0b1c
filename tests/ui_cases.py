"""What tests of the command line share."""

import json

from diffgenz.ui.cli.main import main

LLAMA = ["meta-llama/Llama-3.1-8B", "--system", "h100_sxm"]
ROOFLINE = ["--fit", "none"]
"""Where kernels are not the subject: programs of the roofline compile in half the time."""


def run(capsys, *arguments):
    """What a command prints; it must succeed and complain of nothing."""
    assert main(list(arguments)) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def run_json(capsys, *arguments):
    """The JSON that a command prints."""
    return json.loads(run(capsys, *arguments, "--json"))
