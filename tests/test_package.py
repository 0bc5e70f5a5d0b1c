"""The wheel: one top-level name, its data inside."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_holds_the_package_and_its_data(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name.split("-")[0] for name in top} == {"diffgenz"}
    assert {name for name in top if not name.endswith(".dist-info")} == {"diffgenz"}
    assert "diffgenz/py.typed" in names
    assert "diffgenz/_data/calibration/technology.toml" in names
    shipped = {
        f"diffgenz/_data/hw_specs/{path.name}" for path in (ROOT / "hw_specs").glob("*.toml")
    }
    shipped |= {
        str(path.relative_to(ROOT))
        for path in (ROOT / "diffgenz" / "models" / "configs").rglob("*.json")
    }
    assert shipped <= set(names)
