"""Mutation check: do tests fail when the code is wrong?

python benchmarks/mutants.py            # all, half an hour on one core
python benchmarks/mutants.py 0 20       # those from the first to the 20th

Each mutant is one change in a copy of the source tree. The tests that should notice it, and pass
without it, run in a process that has the heavy libraries already. Results go to ``results/mutants.json``; those that
survive are printed, and explained in ``EQUIVALENT`` if no test can notice them.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from _record import ROOT, SOURCE, save, saved

PACKAGE = "src/scmedal_tools"


class Mutant(NamedTuple):
    file: str
    before: str
    after: str
    tests: str
    """Files or folders in ``tests``, separated by spaces."""


EQUIVALENT = {
    ("train/_splits.py", 'side="right"'): "A random position is never exactly on a bound.",
}
"""By file and changed text, why no test can fail."""

MODULE, TRAIN, MODEL = "tests/module", "tests/train", "tests/model"
GENES, SAMPLES = "tests/_gene_model", "tests/_sample_model"
WRONG_INPUT = "tests/surface/test_formats.py::test_what_is_made_of_a_store"
MUTANTS = [
    # Files, advice and wrong input.
    Mutant("bm/_cross_validation/_parts.py", "{file_stem(name)}", "{name}", "tests/bm/cross_validation/test_resumption.py::TestResumption::test_no_column_names_a_file_elsewhere"),
    Mutant("tl/_embed.py", "if key_added is None else", "if not key_added else", "tests/_data/test_writing.py::test_names_of_embeddings_that_no_file_can_hold"),
    Mutant("_data/_write_csv.py", '.replace("\\r", "\\n")', "", "tests/_data/test_write_csv.py"),
    Mutant("_data/_check_cells.py", "if of_zarr or hasattr", "if hasattr", WRONG_INPUT),
    Mutant("tl/_counterfactual_de.py", "stays_on_disk(adata):", "adata.isbacked:", WRONG_INPUT),
    Mutant("model/_query_checks.py", "if unseen and unknown:", "if unseen and not unknown:", f"{MODEL}/test_query.py::test_new_levels_of_a_type_that_cannot_be_sorted_with_the_others"),
    Mutant("model/_memory_advice.py", " and FITTING_GENE_EFFECTS not in notes", "", f"{MODEL}/test_memory_advice.py"),
    Mutant("model/_memory_advice.py", " if note != INFERENCE", "", f"{MODEL}/test_memory_advice.py"),
    Mutant("model/_saving.py", "(AttributeError, ImportError)", "KeyError", f"{MODEL}/test_checkpoints.py"),
    # Networks.
    Mutant("module/_base.py", "return -self.adversary_weight * cross_entropy", "return self.adversary_weight * cross_entropy", MODULE),
    Mutant("module/_base.py", "torch.relu(self.batch_entropy - cross_entropy)", "torch.relu(cross_entropy - self.batch_entropy)", MODULE),
    Mutant("module/_base.py", "* self.scaler.scale.square()", "* self.scaler.scale", f"{MODULE} {MODEL}/test_base.py"),
    Mutant("module/_likelihood.py", "0.5 * torch.exp(-2 * log_sd)", "0.5 * torch.exp(-log_sd)", f"{MODULE}/test_likelihood.py"),
    Mutant("module/_likelihood.py", "return (x - x_hat).square().mean(1)", "return (x - x_hat).square().sum(1)", f"{MODULE}/test_likelihood.py {MODULE}/test_parity.py"),
    Mutant("module/_layers.py", "momentum=BATCH_NORM_MOMENTUM", "momentum=0.1", f"{MODULE}/test_layers.py {MODULE}/test_parity.py"),
    Mutant("module/_scaler.py", "statistics.variance.mean() ** 0.5", "statistics.variance.mean()", f"{MODULE}/test_scaler.py"),
    Mutant("module/_scaler.py", "x = x.contiguous() if", "x = x if", f"{MODULE}/test_scaler.py"),
    Mutant("module/_scaler.py", "self.shift if genes is None else self.shift[genes]", "self.shift if genes is None else self.shift[: len(genes)]", f"{MODULE}/test_scaler.py tests/test_properties.py"),
    Mutant("module/_autoencoders.py", "table = (table - average) * trained[:, None]", "table = table * trained[:, None]", f"{MODULE}/test_autoencoders.py"),
    Mutant("module/_autoencoders.py", "(table - average) * trained[:, None]", "(table - average)", f"{MODULE}/test_autoencoders.py"),
    Mutant("module/_autoencoders.py", "addcmul(shifts, h, 1 + slopes)", "addcmul(shifts, h, slopes)", f"{MODULE}/test_autoencoders.py"),
    Mutant("module/_reden.py", "addcmul(bias, h, 1 + slope)", "addcmul(bias, h, slope)", f"{MODULE}/test_reden.py"),
    Mutant("module/_random_effects.py", "is_kept = self._kept_version == times_changed(self.rho)", "is_kept = True", f"{MODULE} {TRAIN}"),
    Mutant("module/_random_effects.py", "sd.square().sum() + self.loc.square().sum()", "self.loc.square().sum()", f"{MODULE}/test_reden.py"),
    Mutant("module/_random_effects.py", "- 0.5 * noise**2", "+ 0.5 * noise**2", f"{MODULE}/test_reden.py"),
    Mutant("module/_random_effects.py", "effects_of(table, level, units=units)", "effects_of(table, level.clamp_min(0), units=units)", f"{MODULE}/test_reden.py"),
    Mutant("module/_random_effects.py", "self.prior_sd * noise(n_unseen)", "noise(n_unseen)", f"{MODULE}/test_re.py"),
    Mutant("module/_random_effects.py", "self.loc.addcmul_(of_data, fixed, value=-1)", "self.loc.sub_(fixed)", f"{MODULE}/test_reden.py"),
    Mutant("module/_reden.py", "own_bias.loc.addcmul_(shift, own_slope.loc, value=-1)", "pass", f"{MODULE}/test_reden.py"),
    Mutant("module/_random_effects.py", "len(gradient) * torch.linalg", "torch.linalg", f"{MODULE} {TRAIN}/test_natural_gradient.py"),
    Mutant("module/_random_effects.py", "len(self.loc) - self.n_new if self.n_new else 0", "0", f"{MODULE} {MODEL}/test_query.py"),
    Mutant("module/_re.py", "kl_term = kl / n_obs", "kl_term = kl", f"{MODULE}/test_re.py"),
    Mutant("module/_re.py", "return inference_outputs[\"content\"]", "return inference_outputs[\"z\"]", f"{MODULE}/test_re.py"),
    Mutant("module/_re.py", "table.loc.requires_grad_(bool(table.n_new))", "table.loc.requires_grad_(True)", f"{MODULE}/test_re.py"),
    Mutant("module/_re.py", "name.startswith(\"encoder\")", "name.startswith(\"decoder\")", f"{MODULE}"),
    Mutant("module/_re.py", "n_unseen[factor_of(name)]", "n_unseen[0]", f"{MODULE}/test_re.py"),
    # Training.
    Mutant("train/_natural_gradient.py", "self.n_obs / self.n_kept * table.loc.grad[part]", "self.n_obs * table.loc.grad[part]", f"{TRAIN}/test_effects_move_together.py"),
    Mutant("train/_natural_gradient.py", "1 - (1 - share) ** self.n_kept", "self.n_kept * share", f"{TRAIN}/test_effects_move_together.py"),
    Mutant("train/_natural_gradient.py", "self.n_kept * MAX_LOG_CHANGE_OF_PRIOR", "MAX_LOG_CHANGE_OF_PRIOR", f"{TRAIN}/test_effects_move_together.py"),
    Mutant("train/_natural_gradient.py", "if self.n_kept == 0:", "if True:", f"{TRAIN}/test_effects_move_together.py"),
    Mutant("train/_natural_gradient.py", "change.clamp_(-sd, sd)", "change", f"{TRAIN}/test_natural_gradient.py"),
    Mutant("train/_natural_gradient.py", "(variance * of_prior).sub_(self.kl_weight)", "(variance * of_prior).sub_(1.0)", f"{TRAIN}/test_natural_gradient.py"),
    Mutant("train/_natural_gradient.py", "table.deviation = None  # of a draw that is done with", "pass", f"{TRAIN}/test_natural_gradient.py"),
    Mutant("train/_statistics.py", "x.contiguous() if", "x if", f"{TRAIN}/test_statistics.py"),
    Mutant("module/_re.py", 'fitted_afterwards = ("gene_effects.",)', "fitted_afterwards = ()", f"{TRAIN}/test_best_weights.py"),
    Mutant("train/_natural_gradient.py", "precision += variance.reciprocal()", "pass", f"{TRAIN}/test_natural_gradient.py"),
    Mutant("train/_natural_gradient.py", "* self.n_obs / len(table.loc)", "* self.n_obs", f"{TRAIN}/test_natural_gradient.py"),
    Mutant("train/_natural_gradient.py", "missing * table.start.prior_sd**2", "0", f"{TRAIN}/test_natural_gradient.py"),
    Mutant("train/_natural_gradient.py", "precision.square() * variance + noise * precision", "precision.square() * variance + precision", f"{TRAIN}/test_natural_gradient.py"),
    Mutant("train/_best_weights.py", "loss < self._best", "loss > self._best", f"{TRAIN}/test_best_weights.py"),
    Mutant("train/_best_weights.py", "trainer.current_epoch < self.warmup_epochs", "False", f"{TRAIN}/test_best_weights.py"),
    Mutant("train/_plans.py", "if self.trainer.is_last_batch:", "if False:", f"{TRAIN}/test_epoch_means.py"),
    Mutant("train/_plans.py", "        self._log_means(\"train\")\n        if not", "        if not", f"{TRAIN}/test_epoch_means.py"),
    Mutant("train/_epoch_means.py", "mean.detach().float()", "mean.detach()", f"{TRAIN}/test_epoch_means.py"),
    Mutant("train/_epoch_means.py", "self._sums / self.n_cells", "self._sums", f"{TRAIN}/test_epoch_means.py"),
    Mutant("model/_datamodules.py", "if codes.get(what) != names:", "if False:", f"{MODEL}/test_collection.py {MODEL}/test_datamodules.py"),
    Mutant("_compat.py", "cells._train_mask, shuffle=False", "cells._train_mask, shuffle=True", f"{MODEL}/test_on_disk.py {MODEL}/test_collection.py"),
    Mutant("train/_plans.py", "readable.clamp_min(0)", "readable", f"{TRAIN}/test_plans.py"),
    Mutant("train/_plans.py", "features = self.module.adversary_features(inference).detach()", "features = self.module.adversary_features(inference)", f"{TRAIN}/test_plans.py"),
    Mutant("train/_plans.py", "/ (self.lr_decay * n_steps)", "/ n_steps", f"{TRAIN}/test_optimizers.py"),
    Mutant("train/_statistics.py", "indices=np.sort(splitter.train_idx)", "indices=np.sort(np.concatenate([splitter.train_idx, splitter.val_idx]))", f"{TRAIN}"),
    Mutant("train/_statistics.py", "squares / n - offset.square()", "squares / n", f"{TRAIN} {MODULE}"),
    Mutant("train/_resident_cells.py", "self.place < self.length[rows, None]", "self.place <= self.length[rows, None]", f"{TRAIN}/test_resident_cells.py"),
    Mutant("train/_resident_cells.py", "            x.sum_duplicates()\n", "", f"{TRAIN}/test_resident_cells.py"),
    Mutant("train/_re_plan.py", "nth or self.trainer.is_last_batch", "nth", f"{TRAIN}/test_re_plan.py"),
    Mutant("module/_random_effects.py", "if self.deviation is None:", "if True:", f"{TRAIN}/test_effects_move_together.py"),
    Mutant("train/_re_plan.py", "self._done(batch_idx) + 1 >", "self._done(batch_idx) <", f"{TRAIN}/test_re_plan.py"),
    Mutant("module/_layers.py", "2**16) - 2**15", "2**16) - 2**14", f"{MODULE}/test_layers.py"),
    Mutant("train/_folds.py", "held_out = np.isin(batches, names[tested])", "held_out = np.isin(batches, names[tested[1:]])", f"{TRAIN}/test_folds.py"),
    Mutant("train/_folds.py", "np.concatenate([test, validation])", "test", f"{TRAIN}/test_folds.py"),
    Mutant("train/_splits.py", "side=\"right\"", "side=\"left\"", f"{TRAIN}/test_splits.py tests/test_properties.py"),
    # Mixed models of genes.
    Mutant("_gene_model/_equations.py", "of_fixed = (score * (fixed_covariance @ score)).sum(1)", "of_fixed = 0", f"{GENES}/test_equations.py"),
    Mutant("_gene_model/_equations.py", "twice = 2.0 - 1.0 * (first == second)", "twice = 1.0", f"{GENES}/test_equations.py"),
    Mutant("_gene_model/_equations.py", "torch.logdet(self._scaled).sum() + torch.logdet(self._of_fixed)", "torch.logdet(self._scaled).sum()", f"{GENES}/test_equations.py"),
    Mutant("_gene_model/_equations.py", "self.covariance - self.gain @ self.covariance", "self.covariance", f"{GENES}/test_equations.py"),
    Mutant("_gene_model/_equations.py", "self.given_fixed + self.gain @ self.fixed_covariance @ self.gain.mT", "self.given_fixed", f"{GENES}/test_equations.py"),
    Mutant("_gene_model/_equations.py", "self.information[self.fitted].sum(0) + empty", "self.information.sum(0) + empty", f"{GENES}"),
    Mutant("_gene_model/_equations.py", "correlation if correlated else own", "own", f"{GENES}/test_fit.py"),
    Mutant("_gene_model/_fit.py", "posterior = likelihood * frequencies", "posterior = likelihood / 1.0", f"{GENES}/test_fit.py"),
    Mutant("_gene_model/_fit.py", "left = left.without(model.loc[levels[:, other]])", "pass", f"{GENES}/test_fit.py"),
    Mutant("_gene_model/_fit.py", "total = c + effects", "total = effects", f"{GENES}"),
    Mutant("_gene_model/_fit.py", "values, -1)[..., of_gene]", "values, -1)", f"{GENES}"),
    Mutant("_gene_model/_content.py", "shared -= shared.mean(0)", "pass", f"{GENES}/test_content.py"),
    Mutant("_gene_model/_group_sums.py", "freedom = self.sizes.sum(0) - (self.sizes > 0).sum(0)", "freedom = self.sizes.sum(0)", f"{GENES}/test_group_sums.py"),
    Mutant("_gene_model/_content.py", "shared[:, None] + share * rest", "shared[:, None] + rest", f"{GENES}/test_content.py"),
    Mutant("_gene_model/_probability_of_following.py", "expected[1] + NETWORK_SHARE * guess.means", "expected[1] + guess.means", f"{GENES}"),
    Mutant("_gene_model/_states.py", "(sums + PRIOR_CELLS * overall)", "sums", f"{GENES}/test_states.py"),
    Mutant("_gene_model/_effects.py", "population * (1 - by_network) - content", "population * (1 - by_network)", f"{GENES}/test_effects.py"),
    Mutant("_gene_model/_effects.py", "return NETWORK_SHARE * look_up(draw.follows, units=genes)", "return look_up(draw.follows, units=genes)", f"{GENES}/test_effects.py"),
    Mutant("_gene_model/_posterior.py", "variance = SPREAD**2 *", "variance =", f"{GENES}/test_posterior.py {GENES}/test_effects.py"),
    Mutant("_gene_model/_posterior.py", "(of_point * follows, mean + beyond[rows], True)", "(of_point * follows, mean, True)", f"{GENES}/test_posterior.py {GENES}/test_effects.py"),
    Mutant("_gene_model/_look_up.py", "((level >= 0) & (level < len(table)))[..., None]", "(level >= 0)[..., None]", f"{GENES} {MODULE} {MODEL}/test_unseen.py"),
    # Models of samples.
    Mutant("_sample_model/_fit.py", "np.minimum(2 * np.minimum(below, above), 1.0)", "np.minimum(below, above)", f"{SAMPLES}"),
    Mutant("_sample_model/_fit.py", "(self.probabilities * squares).sum(1) - self.mean**2", "(self.probabilities * squares).sum(1)", f"{SAMPLES}"),
    Mutant("_sample_model/_fit.py", "KURTOSIS * n_rows", "1e-9 * n_rows", f"{SAMPLES}"),
    Mutant("_sample_model/_nested.py", "information -= level.variance", "information += level.variance", f"{SAMPLES}"),
    Mutant("_sample_model/_fit.py", "prior = (EFFECTS / extent) ** 2", "prior = EFFECTS**2", "tests/tl/test_group_effects.py"),
    Mutant("_sample_model/_counts.py", "share**2 * squares_of_totals[:, None]", "squares_of_totals[:, None]", f"{SAMPLES}/test_counts.py"),
    Mutant("_sample_model/_counts.py", "self.counts + overdispersion / 2", "self.counts + overdispersion", f"{SAMPLES}/test_counts.py"),
    Mutant("_sample_model/_counts.py", "measured.sum() < MANY_GENES", "measured.sum() < 1", f"{SAMPLES}/test_counts.py"),
    Mutant("_sample_model/_counts.py", "excess * (relative[:, None] - 1)", "excess * 0", f"{SAMPLES}/test_counts.py"),
    Mutant("tl/_sample_design.py", "if not np.allclose(_within(matrix.to_numpy(), donor), 0):", "if False:", "tests/tl/test_repeated_samples.py"),
    Mutant("_sample_model/_full_rank.py", "np.linalg.pinv(of_kept)", "of_kept.T", f"{SAMPLES}/test_full_rank.py"),
    # What users call.
    Mutant("model/_swap.py", "z = inference[\"z\"] if swap != \"content\" else None", "z = inference[\"z\"]", f"{MODEL}/test_counterfactual.py"),
    Mutant("model/_targets.py", "rows[:, factor] = level", "rows[:, 0] = level", f"{MODEL}/test_factors.py"),
    Mutant("model/_counterfactual.py", "outside = (1 - interval) / 2", "outside = 1 - interval", f"{MODEL}/test_counterfactual.py"),
    Mutant("model/_warn_of_extrapolation.py", "supported[level] < LEAST_SUPPORTED", "supported[level] > LEAST_SUPPORTED", f"{MODEL}/test_warn_of_extrapolation.py"),
    Mutant("model/_fit_gene_effects.py", "explained = sums.residual.without(-_total(content, sums.levels))", "explained = sums.residual", f"{MODEL}/test_fit_gene_effects.py"),
    Mutant("tl/_group_tests.py", "(1 + 1 / len(draws)) * effects.var(0, ddof=1)", "effects.var(0, ddof=1)", "tests/tl/test_counterfactual_de.py"),
    Mutant("model/_base.py", "state[name].copy_(values)", "pass", f"{TRAIN}/test_stoppable_trainer.py"),
    Mutant("model/_registration.py", "if sample != getattr(", "if None is getattr(", f"{MODEL}/test_changed_in_place.py"),
    Mutant("tl/_formula_with_stand_ins.py", "stand_ins.setdefault(name", "stand_ins.setdefault(found[0]", "tests/tl/test_formula_with_stand_ins.py"),
    Mutant("tl/_group_tests.py", "return squares / (len(means) - 2)", "return squares / (len(means) - 1)", "tests/tl/test_counterfactual_de.py"),
    Mutant("tl/_group_tests.py", "2 * statistic / n_pairs - 1", "statistic / n_pairs", "tests/tl/test_counterfactual_de.py"),
    Mutant("tl/_differential_abundance.py", "raised = error + np.median(error)", "raised = error", "tests/tl/test_differential_abundance.py"),
]  # fmt: skip


def run(mutant: Mutant) -> str:
    """What became of a mutant: ``killed``, ``survived`` or why it says nothing."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "src")
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        file = source / "scmedal_tools" / mutant.file
        code = file.read_text(encoding="utf-8")
        if code.count(mutant.before) != 1:
            return f"{code.count(mutant.before)} places"
        file.write_text(code.replace(mutant.before, mutant.after), encoding="utf-8")
        process = os.fork()
        if not process:
            _test(source, mutant.tests.split())
        _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    return {0: "survived", 1: "killed"}.get(code, f"exit code {code}")


def _test(source: Path, tests: list[str]) -> None:
    """Run tests on a source tree, and end the process with their exit code."""
    import pytest

    sys.path.insert(0, str(source))
    os.chdir(ROOT)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not real"]
    os._exit(int(pytest.main([*options, *tests])))


def main(first: int = 0, last: int = len(MUTANTS)) -> None:
    # Not the package itself: each process imports the one that it tests.
    import scanpy  # noqa: F401
    import scvi  # noqa: F401
    import torch

    torch.set_num_threads(1)
    # Verdicts of changed and removed mutants are dropped.
    known = {tuple(row[name] for name in Mutant._fields): row for row in saved("mutants")}
    results = {mutant: known[mutant] for mutant in MUTANTS if mutant in known}
    pass_unchanged = set()
    for number, mutant in list(enumerate(MUTANTS))[first:last]:
        start = time.perf_counter()
        if mutant.tests not in pass_unchanged:
            if (found := run(mutant._replace(after=mutant.before))) != "survived":
                raise SystemExit(f"{mutant.tests}: {found} without a change.")
            pass_unchanged.add(mutant.tests)
        found = run(mutant)
        row = {"result": found, "why": EQUIVALENT.get(mutant[:2]), "commit": SOURCE["commit"]}
        results[mutant] = mutant._asdict() | row
        save("mutants", list(results.values()))
        seconds = round(time.perf_counter() - start)
        print(number, found, f"{seconds} s", mutant.file, mutant.after, flush=True)
    killed = sum(row["result"] == "killed" for row in results.values())
    explained = sum(row["result"] != "killed" and bool(row["why"]) for row in results.values())
    print(f"{killed} of {len(results)} killed, {explained} cannot be")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
