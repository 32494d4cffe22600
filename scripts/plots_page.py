"""`dvc plots show` without a network: writes .dvc/plots.html, a page that has Vega inside.

    python scripts/plots_page.py [--project FOLDER]

`make` runs it at set-up. DVC's own page loads Vega from the web; that it takes this one instead is
said in .dvc/config.local, for this checkout alone, since the page (0.8 MB) is in no commit.
"""

import argparse
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "js_lib_vega_embed"  # of the distribution django-js-lib-vega-embed; needs no Django
# of the versions that DVC's plots are made for
SCRIPTS = ("vega5.js", "vega-lite5.js", "vega-embed6.js")
PAGE = "plots.html"
TEMPLATE = """<!DOCTYPE html>
<html>
<head>
    <meta charset="utf-8">
    {refresh_tag}
    <title>Plots</title>
    <!-- Vega, Vega-Lite, Vega-Embed: University of Washington IDL, BSD 3-Clause -->
    SCRIPTS
    <style>table { border-spacing: 15px; }</style>
</head>
<body>
    {plot_divs}
</body>
</html>
"""  # without {scripts}, where DVC puts what it loads


def page() -> str:
    """The page, with DVC's placeholders."""
    folder = files(PACKAGE) / "static" / PACKAGE
    scripts = [(folder / name).read_text(encoding="utf-8") for name in SCRIPTS]
    return TEMPLATE.replace("SCRIPTS", "\n".join(f"<script>{one}</script>" for one in scripts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--project", type=Path, default=ROOT, help="Folder with .dvc in it.")
    project = parser.parse_args().project
    (project / ".dvc" / PAGE).write_text(page(), encoding="utf-8")
    command = [sys.executable, "-m", "dvc", "config", "--local", "plots.html_template", PAGE]
    subprocess.run(command, cwd=project, check=True)


if __name__ == "__main__":
    main()
