"""An examination of a run: its records, and its weights on a few of its images."""

from __future__ import annotations

import dataclasses
import os

import torch
from torch import Tensor

from vaekit.data.download import data_folder
from vaekit.data.images import Splits
from vaekit.data.splits import load_splits
from vaekit.doctor.evidence import measure
from vaekit.doctor.findings import Examination, Finding, ranked
from vaekit.doctor.history import WARM_UP, symptoms
from vaekit.doctor.rules import RULES
from vaekit.errors import InputError
from vaekit.models.table import Model
from vaekit.networks.layers import on_device
from vaekit.noise import seeded
from vaekit.records import growing
from vaekit.runs import Run
from vaekit.storage import read_tensors

_BY_RECORDS = ("over-fitting", "jumps of the loss", "collapse")
_BY_WEIGHTS = (
    "each latent's rate",
    "prior against codes",
    "likelihood against pixels",
    "sigma against errors",
    "dead units",
    "learning rate and steps",
)


def examine(run: Run, data_dir: str | os.PathLike[str] | None = None) -> Examination:
    """Examine a run that is finished, stopped, or still training; it is read only.

    The weights are the run's model, or before there is one, the best or else the last ones of its checkpoint.

    Args:
        run: the run.
        data_dir: folder of local data sets; None reads the variable VAEKIT_DATA.

    Raises:
        InputError: when its data cannot be found, or its weights are damaged.

    >>> import tempfile, vaekit
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = vaekit.train(folder + "/run", "mlp", data="digits", latent_dim=4, epochs=1)
    ...     [finding.name for finding in examine(run).findings]
    ['posterior-collapse', 'few-steps']
    """
    records = run.metrics()
    failure = run.failure()
    finished = run.model.exists() or failure is not None
    findings: list[Finding] = [] if failure is None else [_diverged(run, failure)]
    findings += symptoms(records, run.config, finished)
    whole = not records or not growing(records[-1])
    weights = _weights(run) if whole else None
    if weights is None:
        reason = (
            f"weights: {'no epoch was finished yet' if whole else 'the images still grow, and the network with them'}"
        )
        return Examination(ranked(findings), _BY_RECORDS, (reason,))
    model = _model(run, weights)
    splits: Splits = load_splits(run.config.data, data_folder(data_dir))
    evidence = measure(model, run.config, run.info, splits)
    for rule in RULES:
        findings += rule(evidence, records)
    findings = _causes(findings)
    if records and not finished:  # a young run may mend by itself
        findings = [finding for finding in findings if finding.name not in ("learning-rate-low", "few-steps")]
        if records[-1]["epoch"] < 0.5 * run.config.training.epochs:
            findings = [finding for finding in findings if finding.name != "posterior-collapse"]
    unchecked = (
        [] if evidence.prior is not None else ["prior against codes: no density, or too few images for the latents"]
    )
    if not finished:
        unchecked.append("learning rate and steps: the run is not finished")
    restored = ("restoration",) if evidence.restored is not None else ()
    return Examination(_once(findings), (*_BY_RECORDS, *_BY_WEIGHTS, *restored), tuple(unchecked))


def _causes(findings: list[Finding]) -> list[Finding]:
    """Without what slow learning explains: latents that are not used yet need its remedy, and codes have no place yet."""
    slow = next((finding for finding in findings if finding.name in ("learning-rate-low", "few-steps")), None)
    if slow is None:
        return findings
    return [
        dataclasses.replace(finding, remedy=slow.remedy) if finding.remedy == WARM_UP else finding
        for finding in findings
        if finding.name != "prior-mismatch"
    ]


def _once(findings: list[Finding]) -> tuple[Finding, ...]:
    """Each rule's gravest finding: what the weights show replaces what the records let suspect."""
    last = {finding.name: finding for finding in findings}
    return ranked(last.values())


def _diverged(run: Run, failure: str) -> Finding:
    rate = run.config.training.learning_rate
    return Finding(
        "learning-rate-high",
        "illness",
        "Training stopped because numbers were no longer finite.",
        f"It ended with: {failure.split(';')[0]}. The learning rate was up to {rate:g}.",
        f"Train anew with --learning-rate {min(rate / 4, 0.004):.2g}; or with --gradient-clip 100, a longer --warmup 0.1, "
        "or --precision float32.",
    )


def _weights(run: Run) -> dict[str, Tensor] | None:
    if run.model.exists():
        return read_tensors(run.model, "model")[0]
    if not run.checkpoint.exists():
        return None
    tensors = read_tensors(run.checkpoint, "checkpoint")[0]
    for prefix in ("best/", "player/model/"):
        if found := {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}:
            return found
    return None


def _model(run: Run, weights: dict[str, Tensor]) -> Model:
    with seeded(0, "weights"):  # they are replaced at once
        model: Model = run.config.model.build(run.info)
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise InputError(f"run {str(run.path)!r}: its weights do not fit its config.json; restore both") from None
    return on_device(model, torch.device("cpu")).eval()
