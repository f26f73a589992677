"""`train` and `resume`: from a configuration, or a run folder, to weights."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaekit.config import check, replace, settled
from vaekit.data.download import data_folder
from vaekit.data.images import DataInfo, Splits
from vaekit.data.sources import is_path
from vaekit.data.splits import load_splits
from vaekit.doctor.watch import Attendant
from vaekit.errors import DivergedError, InputError
from vaekit.fit import check_fit
from vaekit.models.table import Model
from vaekit.noise import seeded
from vaekit.runs import Resolved, Run, check_new
from vaekit.settings import Config, configure
from vaekit.storage import save_model
from vaekit.training.engine import lost_kernels, prepare, resolve
from vaekit.training.processes import Processes
from vaekit.training.reporting import EpochLines, Observer, Several, TensorBoard, check_tensorboard
from vaekit.training.starting import begin, freeze
from vaekit.training.trainable import check_trainable, seeded_players
from vaekit.training.trainer import Trainer


def seeded_model(config: Config, info: DataInfo) -> Model:
    """The model of a configuration, initialized from its seed without touching torch's global generator."""
    with seeded(config.training.seed, "weights"):
        return config.model.build(info)


def train(
    out: str | os.PathLike[str],
    preset: str = "conv",
    *,
    config: Config | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    observer: Observer | None = None,
    **given: Any,
) -> Run:
    """Train a model into a new run folder.

    Args:
        out: the folder, made if need be.
        preset: a preset's name; further keywords are flat settings, as on the command line.
        config: a whole configuration, in place of preset and settings.
        data_dir: folder of local data sets; None reads the variable VAEKIT_DATA.
        observer: is told of progress; None prints a line an epoch to standard error.

    Raises:
        InputError: when something given is wrong; nothing was written.
        RunError: when training failed midway; what was saved is intact.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = train(folder + "/run", "mlp", data="digits", latent_dim=2, epochs=2)
    ...     [record["epoch"] for record in run.metrics()]
    [1, 2]
    """
    check_new(Path(out))
    config = checked(configure(preset, **given) if config is None else config)
    return _begin(out, config, load_splits(config.data, data_folder(data_dir)), observer, _tell, None)


def train_on(
    splits: Splits,
    config: Config,
    out: str | os.PathLike[str],
    *,
    observer: Observer | None = None,
    note: Callable[[str], None] | None = None,
    start: Mapping[str, Tensor] | None = None,
) -> Run:
    """Train a model on images in memory into a new run folder; the folder holds no images, so it cannot be resumed.

    Args:
        splits: the images, with their description.
        config: whose data settings make the batches.
        out: the folder, made if need be.
        observer: as for `train`.
        note: is told what works but misleads; None prints it to standard error.
        start: weights and moments to start from, as a checkpoint names them; None starts from the seed.

    Raises:
        InputError: when something given is wrong; nothing was written.
        RunError: when training failed midway.
    """
    check_new(Path(out))
    return _begin(out, checked(config), splits, observer, note or _tell, start)


def _tell(sentence: str) -> None:
    print(f"vaekit: note: {sentence}", file=sys.stderr)


def checked(config: Config) -> Config:
    """The configuration for a new run, before its data are read."""
    check(config)
    config.check_combination()
    done: Config = settled(config)
    check_tensorboard(done.training)
    return done


def _begin(
    out: str | os.PathLike[str],
    config: Config,
    splits: Splits,
    observer: Observer | None,
    note: Callable[[str], None],
    start: Mapping[str, Tensor] | None,
) -> Run:
    """Check everything, make the run folder, train."""
    resolved, advice = planned(config, splits)
    processes = Processes(prepare(resolved))
    processes.wait()  # until every process has seen that the folder is new
    if processes.first:
        Run.create(out, *anchored(config, splits.info), resolved)
        for sentence in advice:
            note(sentence)
    processes.wait()
    return fit(Run(out), splits, processes, observer, start)


def planned(config: Config, splits: Splits) -> tuple[Resolved, list[str]]:
    """Refuse what cannot be trained; returns the automatic choices, and sentences on what works but misleads.

    Raises:
        InputError: when something does not fit.
    """
    advice = check_fit(config, splits.info)
    model = seeded_model(config, splits.info)
    advice = [*advice, *begin(model, config, splits.train)]
    resolved = resolve(config.training, model)
    check_trainable(config, model, splits, Processes(prepare(resolved)))
    seeded_players(config, splits)  # refuses what it cannot take before anything is written
    return resolved, advice


def resume(
    path: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    observer: Observer | None = None,
) -> Run:
    """Continue a run from its checkpoint, to the same weights as if it had never stopped.

    Raises:
        InputError: when there is no run, its data changed, or another process holds it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = train(folder + "/run", "mlp", data="digits", epochs=1)
    ...     resume(run.path).metrics() == run.metrics()  # finished: nothing was left to do
    True
    """
    run = Run(path)
    check_tensorboard(run.config.training)
    processes = Processes(prepare(run.resolved))
    if processes.count != run.resolved.processes:
        raise InputError(
            f"run {str(path)!r} was begun with {run.resolved.processes} processes and this is {processes.count}; "
            "start as many"
        )
    if processes.first and (sentence := lost_kernels(run.resolved)):
        _tell(sentence)
    splits = load_splits(run.config.data, data_folder(data_dir))
    check_same(run, splits)
    return fit(run, splits, processes, observer)


def check_same(run: Run, splits: Splits) -> None:
    """Refuse to go on with other data than a run began with.

    Raises:
        InputError: when they differ.
    """
    if splits.info != run.info:
        raise InputError(f"data {run.info.name!r} changed since the run began; restore them or train anew")


def anchored(config: Config, info: DataInfo) -> tuple[Config, DataInfo]:
    """Both with the path of own images made absolute, so that it holds from wherever the run is read."""
    if config.data.target is not None:
        config = replace(config, ("data", "target"), str(Path(config.data.target).expanduser().resolve()))
    if not is_path(info.name):
        return config, info
    path = str(Path(info.name).expanduser().resolve())
    return replace(config, ("data", "data"), path), dataclasses.replace(info, name=path)


def fit(
    run: Run,
    splits: Splits,
    processes: Processes,
    observer: Observer | None,
    start: Mapping[str, Tensor] | None = None,
) -> Run:
    """Train a run from wherever it stands to its end, and keep its model.

    Args:
        run: its folder.
        splits: its data.
        processes: this process's group.
        observer: as for `train`.
        start: weights and moments to start from, as a checkpoint names them; None starts from the seed.

    Raises:
        InputError: when another process holds the run.
        RunError: when training failed midway.
    """
    if not processes.first:
        _train(run, splits, processes, observer, start)
        return run
    with run.locked():
        run.clean()
        _train(run, splits, processes, observer, start)
    return run


def _train(
    run: Run, splits: Splits, processes: Processes, observer: Observer | None, start: Mapping[str, Tensor] | None
) -> None:
    told: Observer = observer or Several(EpochLines(), Attendant(run))
    with ExitStack() as stack:
        if run.config.training.tensorboard and processes.first:
            told = Several(told, stack.enter_context(closing(TensorBoard(run))))
        trainer = trainer_of(run, splits, processes, told)
        if start is not None:
            trainer.begin_from(start)
        try:
            trainer.fit()
        except DivergedError as failure:
            if processes.first:
                run.note_failure(str(failure))
            raise
    keep(trainer)


def trainer_of(run: Run, splits: Splits, processes: Processes, observer: Observer) -> Trainer:
    """What trains a run, standing where its checkpoint does, or at the beginning."""
    device = torch.device("cpu") if run.resolved.device == "cpu" else torch.device("cuda", torch.cuda.current_device())
    model = seeded_model(run.config, splits.info)
    if not run.checkpoint.exists():
        begin(model, run.config, splits.train)
    freeze(model, run.config.training)
    return Trainer(run, splits, model, processes, device, observer)


def keep(trainer: Trainer) -> None:
    """Write the model of a training that has ended; by all processes together."""
    run, weights = trainer.run, trainer.weights()
    if trainer.processes.first:
        save_model(run.model, trainer.model, run.config, run.info, weights)
    trainer.processes.wait()
