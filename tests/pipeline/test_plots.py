"""scripts/plots_page.py: `dvc plots show` makes a page that needs no network."""

import re
import sys
from pathlib import Path

from tools import ROOT, shell

DVC_YAML = """\
plots:
  - quality:
      x: k
      y:
        quality.csv: part_iou
"""


def test_the_page_of_plots_loads_nothing(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
    (tmp_path / "quality.csv").write_text("k,part_iou\n2,41.25\n3,57.75\n", encoding="utf-8")
    (tmp_path / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        (tmp_path / ".dvc" / name).write_bytes((ROOT / ".dvc" / name).read_bytes())
    assert shell(tmp_path, ROOT, "git", "init", "--quiet").returncode == 0
    script = ROOT / "scripts/plots_page.py"
    made = shell(tmp_path, ROOT, sys.executable, str(script), "--project", str(tmp_path))
    assert made.returncode == 0, made.stderr
    shown = shell(tmp_path, ROOT, "dvc", "plots", "show")
    assert shown.returncode == 0, shown.stderr
    page = (tmp_path / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|iframe)\b[^>]*\b(src|href)=", page)
    assert page.index("vegaEmbed=") < page.index("vegaEmbed('#")  # there before it is called
    assert "57.75" in page and "{plot_divs}" not in page
    # of this checkout alone
    ignored = shell(tmp_path, ROOT, "git", "status", "--porcelain", "--untracked-files=all")
    assert not re.search(r"config\.local|plots\.html", ignored.stdout)
