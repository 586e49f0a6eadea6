"""Settings of the Sphinx documentation."""

from __future__ import annotations

from importlib.metadata import metadata

_metadata = metadata("scmedal-tools")

project = _metadata["Name"]
author = _metadata["Author"]
copyright = f"2026, {author}"
release = version = _metadata["Version"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

# Notebooks are run where their data are, and shown with the output they were saved with.
nb_execution_mode = "off"
nb_output_stderr = "remove"
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autosummary_generate = True
# The public names of a module are those in its __all__.
autosummary_ignore_module_all = False
napoleon_google_docstring = False
napoleon_use_rtype = False
typehints_defaults = "braces"
always_use_bars_union = True

intersphinx_mapping = {
    "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
    "numpy": ("https://numpy.org/doc/stable/", None),
    "pandas": ("https://pandas.pydata.org/docs/", None),
    "python": ("https://docs.python.org/3/", None),
    "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
    "scvi-tools": ("https://docs.scvi-tools.org/en/stable/", None),
    "torch": ("https://docs.pytorch.org/docs/stable/", None),
}

html_theme = "sphinx_book_theme"
html_title = project
