"""How `make docs` builds the pages: Sphinx reads them as Markdown, and every warning fails."""  # noqa: INP001 - no package

project = "projectiond"
author = "the projectiond maintainers"
html_title = "projectiond"
html_theme = "furo"
html_show_copyright = False
html_show_sphinx = False

extensions = ["myst_parser"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
