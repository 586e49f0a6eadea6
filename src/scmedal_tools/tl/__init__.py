"""Tools for trained models: embeddings, effects, counterfactuals, tests and genomaps."""

from ._admissibility import admissibility
from ._batch_similarity import batch_similarity
from ._combine import combine
from ._counterfactual_de import counterfactual_de
from ._counterfactual_means import counterfactual_means
from ._differential_abundance import differential_abundance
from ._donor_distances import DonorDistances, donor_distances
from ._donor_embedding import donor_embedding
from ._effects_diagnostics import EffectsDiagnostics, effects_diagnostics
from ._embed import embed

# For other folders of the package.
from ._embed import write_embedding as write_embedding
from ._gene_test_checks import SIGNIFICANT as SIGNIFICANT
from ._genomap_images import GenomapImages, genomap_images
from ._genomap_images import layout_of as layout_of
from ._genomap_layout import genomap_layout
from ._group_effects import OVERALL as OVERALL
from ._group_effects import GroupEffects, group_effects
from ._models import check_has_draws as check_has_draws
from ._models import check_has_random_effects as check_has_random_effects
from ._models import held_back_cells as held_back_cells
from ._projection_stack import projection_stack
from ._pseudobulk_de import pseudobulk_de
from ._sample_design import groups_of as groups_of
from ._umap import umap
from ._umap import umap_key as umap_key
from ._variance_components import variance_components
from ._write_counterfactuals import write_counterfactuals

__all__ = [
    "DonorDistances",
    "EffectsDiagnostics",
    "GenomapImages",
    "GroupEffects",
    "admissibility",
    "batch_similarity",
    "combine",
    "counterfactual_de",
    "counterfactual_means",
    "differential_abundance",
    "donor_distances",
    "donor_embedding",
    "effects_diagnostics",
    "embed",
    "genomap_images",
    "genomap_layout",
    "group_effects",
    "projection_stack",
    "pseudobulk_de",
    "umap",
    "variance_components",
    "write_counterfactuals",
]


def __dir__() -> list[str]:
    return list(__all__)
