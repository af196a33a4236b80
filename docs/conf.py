"""How the documentation is built: sphinx-build -W -b html docs docs/_build/html; it needs no network."""

import os
import sys
from pathlib import Path

# Before torch is imported here or in the processes of examples, which are small: more threads than idle cores would
# make them many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_support"), str(HERE.parent / "src")]

from jensen_docs import escape, skip, substitutions

import jensen

project = "jensen"
author = "the authors of jensen"
release = version = jensen.__version__
copyright = "the authors of jensen"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = [
    "_build",
    "_support",
    "_templates",
    "examples",
    "gallery/*.ipynb",
    "sg_execution_times.rst",
]
templates_path = ["_templates"]
suppress_warnings = ["config.cache"]

html_theme = "furo"
html_title = f"jensen {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]

myst_enable_extensions = ["dollarmath", "substitution", "colon_fence", "deflist"]
myst_heading_anchors = 3
myst_substitutions = substitutions(HERE.parent)

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "within_subsection_order": "jensen_docs.Order",
    "reset_modules": ("matplotlib", "jensen_docs.style"),
    "image_srcset": ["2x"],
    "download_all_examples": False,
    "capture_repr": (),
    "show_signature": False,
    "show_memory": False,
    "min_reported_time": 1000,
    "write_computation_times": False,
    "remove_config_comments": True,
    "plot_gallery": True,
    "parallel": True,
}


def setup(app: Sphinx) -> None:
    """Connects what is done to docstrings, ahead of napoleon."""
    app.connect("autodoc-process-docstring", escape, priority=400)
    app.connect("autodoc-skip-member", skip)
