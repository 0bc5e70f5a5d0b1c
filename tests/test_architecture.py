"""The house: which room may import which, what is documented, how long a file is."""

import ast
from pathlib import Path

import pytest

import diffgenz

PACKAGE = Path(diffgenz.__file__).parent
FLOORS = [
    {"errors", "tables", "use_case_figures", "software"},
    {"flags", "files"},
    {"checks", "units", "smooth"},
    {"draws", "record", "formats", "model_files", "kernels.shapes"},
    {"gear", "kernels.form", "kernels"},
    {
        "precision",
        "kernels.gemm",
        "kernels.batched",
        "kernels.prefill",
        "kernels.elementwise",
        "kernels.conv",
        "kernels.scans",
        "kernels.latent",
        "kernels.experts",
    },
    {"kernels.collective", "kernels.deepep", "kernels.cached"},
    {"kernels.custom_allreduce"},
    {"kernels.decode"},
    {"kernels.families", "kernels.library"},
    {"specs", "topology", "step"},
    {"fits"},
    {"hardware", "listing", "operators"},
    {"models.norms", "models.block", "workload", "recurrences", "compression", "checkpoints"},
    {"models.attention", "models.mlp", "models.mla", "models.mamba", "models.linear_attention", "models.adapter", "use_cases"},
    {"models.moe", "models.vision"},
    {"models.model"},
    {"models.config", "serving_options"},
    {"models.mtp"},
    {"models.families", "models.families_moe", "models.families_vision"},
    {"models.families_hybrid"},
    {"models.huggingface", "models"},
    {"roofline", "collectives"},
    {"pipeline", "uncertainty", "exchanging"},
    {"iteration"},
    {"encoding"},
    {"energy"},
    {"served"},
    {"drafting"},
    {"footprint"},
    {"offloading"},
    {"smallest", "inference", "layouts"},
    {"attribution", "sensitivity", "deployments", "sizing", "disaggregation"},
    {"sweeping.shown", "sweeping.sections"},
    {"sweeping.sobol", "sweeping.axes", "sweeping.expressions", "sweeping.leaves", "sweeping.digest", "sweeping.scenario", "sweeping.pareto"},
    {"sweeping.decoder"},
    {"sweeping.space", "sweeping.reductions"},
    {"sweeping.program", "sweeping.rows"},
    {"sweeping.engine"},
    {"sweeping.checkpoint", "sweeping.findings"},
    {"sweeping.run"},
    {"sweeping.ray_tasks", "sweeping"},
    {"serving_flags", "format_flags", "export", "plots"},
    {
        "calibrating",
        "calibrating.aiconfigurator",
        "calibrating.layouts",
        "calibrating.samples",
        "calibrating.frames",
        "calibrating.aiconfigurator.frames",
    },
    {"calibrating.products", "calibrating.layouts.layout", "calibrating.layouts.models", "calibrating.layouts.collectives"},
    {"calibrating.layouts.transformer"},
    {
        "calibrating.layouts.vidur",
        "calibrating.layouts.llmservingsim",
        "calibrating.layouts.llmservingsim_v0",
        "calibrating.layouts.infersim",
        "calibrating.layouts.infersim_attention",
        "calibrating.layouts.llmcompass",
        "calibrating.layouts.apex",
        "calibrating.layouts.nccl_tests",
        "calibrating.layouts.plain",
    },
    {"calibrating.layouts.frontier"},
    {"calibrating.layouts.frontier_attention"},
    {
        "calibrating.aiconfigurator.gemm",
        "calibrating.aiconfigurator.attention",
        "calibrating.aiconfigurator.latent",
        "calibrating.aiconfigurator.routing",
    },
    {
        "calibrating.aiconfigurator.scans",
        "calibrating.aiconfigurator.comm",
        "calibrating.aiconfigurator.deepep",
        "calibrating.aiconfigurator.experts",
        "calibrating.aiconfigurator.quantise",
    },
    {"calibrating.cleaning", "calibrating.fitting", "calibrating.wires"},
    {"calibrating.readers", "calibrating.transfer", "calibrating.posterior"},
    {"calibrating.run", "calibrating.suggestion"},
    {"commands"},
    {"sweeping.axis_tables"},
    {"sweeping.space_file", "sweep_plots"},
    {"search_command", "requirements_command", "sweep_command", "calibrate_command"},
    {"pareto_command"},
    {"cli", "__init__"},
    {"__main__"},
]
"""From the ground up: a module imports only from floors below its own."""

HEIGHT = {room: height for height, floor in enumerate(FLOORS) for room in floor}
MODULES = {str(path.relative_to(PACKAGE).with_suffix("")).replace("/", ".").removesuffix(".__init__"): path for path in PACKAGE.rglob("*.py")}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_from_below(name):
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        imported = []
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "diffgenz":
            inside = (node.module or "").removeprefix("diffgenz").lstrip(".")
            imported = [inside] if inside else [alias.name for alias in node.names]
        for room in imported:
            assert HEIGHT[room] < HEIGHT[name], f"{name} imports {room}"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_short_and_documented(name):
    text = MODULES[name].read_text()
    assert text.count("\n") <= 400
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            assert ast.get_docstring(node), node.name
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def test_public_names_resolve_to_what_type_checkers_see():
    declared = set()
    for node in ast.walk(ast.parse(MODULES["__init__"].read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("diffgenz."):
            declared |= {(node.module, alias.name) for alias in node.names}
    assert declared == {(f"diffgenz.{module}", name) for name, module in diffgenz._MODULES.items()}
    assert sorted(diffgenz.__all__) == sorted(diffgenz._MODULES)
    for name in diffgenz.__all__:
        assert getattr(diffgenz, name).__class__.__name__ != "module"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = diffgenz.nothing
