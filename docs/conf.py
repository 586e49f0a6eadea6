"""Settings of the Sphinx documentation."""

from __future__ import annotations

import inspect
import os
import re
import shutil
from importlib.metadata import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import scmedal_tools

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

# The tutorials lie beside the documentation, and become a part of it here.
_docs = Path(__file__).resolve().parent
shutil.rmtree(_docs / "tutorials", ignore_errors=True)
shutil.copytree(
    _docs.parent / "tutorials",
    _docs / "tutorials",
    ignore=shutil.ignore_patterns("*.py", "__pycache__", ".ipynb_checkpoints"),
)

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
    "sphinx.ext.viewcode",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",
    "sphinx_design",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "jupyter_execute", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

# Notebooks are run where their data are, and shown with the output they were saved with.
nb_execution_mode = "off"
nb_output_stderr = "remove"
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
bibtex_default_style = "plain"

autodoc_member_order = "bysource"
autosummary_generate = True
# The public names of a module are those in its __all__.
autosummary_ignore_module_all = False
_LEFT_OUT = (
    "configure_optimizers",
    "get_extra_state",
    "on_fit_start",
    "on_validation_epoch_end",
    "set_extra_state",
    "training_step",
    "val_dataloader",
)


def _methods(cls: type) -> list[str]:
    """Methods on the page of a class: its own, and those that a model inherits in this package."""
    bases = cls.__mro__ if cls.__module__.startswith("scmedal_tools.model.") else [cls]
    ours = [base for base in bases if base.__module__.startswith("scmedal_tools.")]
    names = dict.fromkeys(name for base in ours for name in vars(base))
    return [
        name
        for name in names
        if not name.startswith("_")
        and name not in _LEFT_OUT
        and inspect.isroutine(method := getattr(cls, name))
        and inspect.getdoc(method)
    ]


_parts = [getattr(scmedal_tools, name) for name in scmedal_tools.__all__]
_public = {
    f"{part.__name__}.{name}": getattr(part, name) for part in _parts for name in part.__all__
}
# For the tables of methods in the template of a class.
autosummary_context = {
    "left_out": ", ".join(_LEFT_OUT),
    "methods_of": {name: _methods(cls) for name, cls in _public.items() if inspect.isclass(cls)},
}
napoleon_google_docstring = False
napoleon_use_rtype = False
typehints_defaults = "braces"
always_use_bars_union = True

# Every reference has to lead somewhere. Without a network, those to other packages are let pass.
nitpicky = True
# pylemur has no inventory; the other is a private return type.
nitpick_ignore = [
    ("py:class", "pylemur.tl.lemur.LEMUR"),
    ("py:class", "scmedal_tools._gene_model._posterior.Averages"),
]
_others = {
    "anndata": "https://anndata.readthedocs.io/en/stable/",
    "lightning": "https://lightning.ai/docs/pytorch/stable/",
    "matplotlib": "https://matplotlib.org/stable/",
    "mudata": "https://mudata.readthedocs.io/en/latest/",
    "numpy": "https://numpy.org/doc/stable/",
    "pandas": "https://pandas.pydata.org/docs/",
    "python": "https://docs.python.org/3/",
    "scanpy": "https://scanpy.readthedocs.io/en/stable/",
    "scipy": "https://docs.scipy.org/doc/scipy/",
    "scvi": "https://docs.scvi-tools.org/en/stable/",
    "torch": "https://docs.pytorch.org/docs/stable/",
}
if os.environ.get("SCMEDAL_DOCS_OFFLINE"):
    intersphinx_mapping = {}
    nitpick_ignore_regex = [
        ("py:.*", rf"({'|'.join(_others)}|collections|pathlib|typing)\..*"),
    ]
else:
    intersphinx_mapping = {name: (url, None) for name, url in _others.items()}

html_theme = "sphinx_book_theme"
html_title = project
html_theme_options = {"navbar_persistent": []}  # the search is in the sidebar
# Read the Docs says where the repository is; notebooks are then opened in Colab from there.
_repository = os.environ.get("READTHEDOCS_GIT_CLONE_URL", "").removesuffix(".git")
_of_a_pull_request = os.environ.get("READTHEDOCS_VERSION_TYPE") == "external"
if _repository.startswith("https://github.com/") and not _of_a_pull_request:
    html_theme_options |= {
        "repository_url": _repository,
        "repository_branch": os.environ["READTHEDOCS_GIT_IDENTIFIER"],
        "use_repository_button": True,
        "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    }
html_static_path = ["_static"]
html_css_files = ["custom.css"]


def drop_mixins(app: Sphinx, name: str, obj: type, options: object, bases: list) -> None:
    """Leave out base classes that only divide a class into files."""
    bases[:] = [base for base in bases if "Mixin" not in str(base)]


def public_name(app: Sphinx, env: object, node: pending_xref, child: nodes.TextElement) -> None:
    """Look up a class of another package where it is documented, not where it is defined.

    ``mudata._core.mudata.MuData`` is ``mudata.MuData``, ``torch.nn.modules.module.Module`` is
    ``torch.nn.Module``.
    """
    if not node["reftarget"].startswith("scmedal_tools"):
        defined = node["reftarget"].replace(".nn.modules.", ".nn._modules.")
        node["reftarget"] = re.sub(r"\._[\w.]*\.(?=\w+$)", ".", defined)


def out_of_the_search(app: Sphinx, env: BuildEnvironment) -> None:
    """Let the search skip private names, to which pages refer: as it skips aliases."""
    objects = env.domains.python_domain.objects
    for name in [name for name in objects if "._" in name]:
        objects[name] = objects[name]._replace(aliased=True)


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-bases", drop_mixins)
    app.connect("env-updated", out_of_the_search)
    app.connect("missing-reference", public_name, priority=100)  # intersphinx comes at 500
