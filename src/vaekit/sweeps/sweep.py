"""`sweep`: a run for each combination of settings, those that can be trained at once together."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vaekit.config import encode
from vaekit.data.batches import Data
from vaekit.data.download import data_folder
from vaekit.data.images import Splits
from vaekit.data.splits import load_splits
from vaekit.doctor.findings import in_a_line
from vaekit.doctor.history import symptoms
from vaekit.doctor.watch import Attendant
from vaekit.errors import DivergedError, InputError, StoppedError
from vaekit.evaluation.evaluate import evaluate
from vaekit.records import to_json
from vaekit.runs import Resolved, Run, check_new, hold, write_atomically
from vaekit.storage import read_tensors
from vaekit.sweeps.grid import Grid, Member, members, shared
from vaekit.sweeps.joint import Joint, JointTrainer
from vaekit.sweeps.reporting import Together
from vaekit.sweeps.results import FINISHED, measured_on, member_record
from vaekit.sweeps.stacked import Stack
from vaekit.sweeps.streams import SIDE_BY_SIDE, Streams
from vaekit.training.engine import prepare
from vaekit.training.processes import Processes
from vaekit.training.reporting import EpochLines, Observer, Several
from vaekit.training.stopping import asked_to_stop
from vaekit.training.train import anchored, check_same, checked, fit, keep, planned, trainer_of
from vaekit.training.trainer import Trainer

_AT_ONCE = 32  # members of a stack: more are no faster on a CPU, and all their weights are held in memory
_FILE = "sweep.json"


@dataclass(frozen=True)
class Job:
    """A member with its place on disk, its data and the automatic choices."""

    member: Member
    path: Path
    splits: Splits
    resolved: Resolved

    @property
    def started(self) -> bool:
        return (self.path / "config.json").exists()

    @property
    def open(self) -> bool:
        """Whether there is something left to train."""
        return not self.started or ((run := Run(self.path)).failure() is None and not run.model.exists())

    @property
    def step(self) -> int:
        """Steps taken so far."""
        file = self.path / "checkpoint"
        return int(read_tensors(file, "checkpoint")[1]["progress"]["step"]) if file.exists() else 0

    def run(self) -> Run:
        """The run folder, made if need be."""
        if self.started:
            return Run(self.path)
        return Run.create(self.path, *anchored(self.member.config, self.splits.info), self.resolved)


def sweep(
    out: str | os.PathLike[str],
    preset: str = "conv",
    grid: Grid | None = None,
    *,
    num_importance_samples: int = 0,
    limit: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    observer: Observer | None = None,
    note: Callable[[str], None] | None = None,
    **given: Any,
) -> dict[str, Any]:
    """Train a model for each combination of some settings, each into a run folder of its own.

    Members that differ in the seed and in numbers alone, such as beta and the learning rate, take their steps together where
    that may be; see `vaekit.sweeps.stacked`. What was begun before by the same call is continued. A member that diverges is
    marked, and the others go on.

    Args:
        out: the folder of all, made if need be; a member's own is ``out/beta-0.5-seed-1``.
        preset: settings to start from; further keywords are settings of all members, as for `vaekit.train`.
        grid: lists of values by the name of a setting.
        num_importance_samples: measure each finished member on test images with so many; 0: do not.
        limit: measure with so many images, evenly spread.
        data_dir: folder of local data sets; None reads the variable VAEKIT_DATA.
        observer: is told of the progress of each member; None prints to standard error.
        note: is told what works but misleads; None prints it to standard error.

    Returns:
        What is in ``out/sweep.json``: ``grid``, and in ``members`` the name, values, status, the records of the epoch whose
        weights were kept (``train``, ``val``) and, where it was asked for, ``evaluation`` of each.

    Raises:
        InputError: when something given is wrong, or `out` holds another sweep; nothing was written.
        StoppedError: when it was asked to stop; the same call goes on.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     record = sweep(folder + "/s", "mlp", {"beta": [1, 4]}, data="digits", epochs=1)
    >>> [(each["name"], each["status"]) for each in record["members"]]
    [('beta-1', 'finished'), ('beta-4', 'finished')]
    """
    folder = Path(out)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("a sweep runs in one process; start it without torchrun")
    found = [replace(each, config=checked(each.config)) for each in members(preset, grid or {}, given)]
    stored = _stored(folder)
    lists = {name: _unique([each.values[name] for each in found]) for name in found[0].values}
    plan = json.loads(to_json({"preset": preset, "grid": lists, "first": encode(found[0].config)}))
    if stored is not None and any(stored.get(key) != plan[key] for key in plan):
        raise InputError(
            f"{str(folder)!r} holds another sweep ({_listed(stored)}); repeat the same to continue it, or choose another "
            "folder"
        )
    jobs, advice = _jobs(folder, found, data_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{str(folder)!r} cannot be written ({error.strerror}); choose another folder") from None
    with hold(folder, "sweep"):
        for sentence in advice:
            (note or _tell)(sentence)
        before = {each["name"]: each for each in (stored or {}).get("members", [])}

        def write() -> dict[str, Any]:
            record = {
                **plan,
                "members": [member_record(job.member, job.path, before.get(job.member.name)) for job in jobs],
            }
            write_atomically(folder / _FILE, to_json(record) + "\n")
            return record

        write()
        try:
            with asked_to_stop():
                for group, several in grouped(jobs):
                    _train(group, several, observer)
                    write()
        except StoppedError as stop:
            write()
            raise StoppedError(f"{str(stop).split(';')[0]}; repeat the command to continue") from None
        record = write()
        if num_importance_samples:
            for job, each in zip(jobs, record["members"], strict=True):
                if each["status"] == FINISHED:
                    each["evaluation"] = _evaluation(job, each["evaluation"], num_importance_samples, limit, data_dir)
                    write_atomically(folder / _FILE, to_json(record) + "\n")
        record["measured_on"] = measured_on(record["members"])
        record["figures"] = draw_sweep(record, folder)
        write_atomically(folder / _FILE, to_json(record) + "\n")
    return record


def draw_sweep(record: dict[str, Any], folder: Path) -> list[str]:
    """Write the picture of what was swept; returns where it is, or nothing where no number but the seed was."""
    from vaekit.sweeps.figure import picture  # imports matplotlib, which takes half a second

    return picture(record, folder)


def _tell(sentence: str) -> None:
    print(f"vaekit: note: {sentence}", file=sys.stderr)


def _unique(values: Sequence[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _listed(stored: dict[str, Any]) -> str:
    grid = stored.get("grid", {})
    return " x ".join(f"{name} {','.join(map(str, values))}" for name, values in grid.items()) or "damaged"


def _stored(folder: Path) -> dict[str, Any] | None:
    """The sweep that is in a folder.

    Raises:
        InputError: when the folder is a file or a run, or its sweep is damaged.
    """
    check_new(folder)
    try:
        found: dict[str, Any] = json.loads((folder / _FILE).read_text())
        return found if isinstance(found, dict) else {}
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise InputError(f"{folder / _FILE}: the sweep is damaged; restore it or choose another folder") from None


def _jobs(folder: Path, found: Sequence[Member], data_dir: Any) -> tuple[list[Job], list[str]]:
    """Every member checked, before anything is written, and sentences on what works but misleads."""
    known: dict[Data, Splits] = {}
    jobs, advice = [], []
    for member in found:
        data = member.config.data
        if data not in known:
            known[data] = load_splits(data, data_folder(data_dir))
        splits, path = known[data], folder / member.name
        if (path / "config.json").exists():
            run = Run(path)
            check_same(run, splits)
            if run.config != anchored(member.config, splits.info)[0]:
                raise InputError(f"{str(path)!r} holds another run; choose another folder")
            jobs.append(Job(member, path, splits, run.resolved))
            continue
        check_new(path)
        resolved, sentences = planned(member.config, splits)
        advice += sentences
        jobs.append(Job(member, path, splits, resolved))
    return jobs, _unique(advice)


def grouped(jobs: Sequence[Job]) -> list[tuple[list[Job], bool]]:
    """The open jobs that stand at one step of those that might be stacked, and whether these were several to begin with.

    Jobs might be stacked that are equal but for seed and numbers. Who of them is together follows from all that were swept,
    open or not: one that a kill has left behind the others takes its steps stacked, as it would have done beside them, and
    so to the same bits.
    """
    kinds: dict[str, list[Job]] = {}
    for job in jobs:
        kinds.setdefault(to_json([encode(shared(job.member.config)), vars(job.resolved)]), []).append(job)
    found = []
    for kind in kinds.values():
        for together in (kind[first : first + _AT_ONCE] for first in range(0, len(kind), _AT_ONCE)):
            by_step: dict[int, list[Job]] = {}
            for job in together:
                if job.open:
                    by_step.setdefault(job.step, []).append(job)
            found += [(group, len(together) > 1) for group in by_step.values()]
    return found


def _train(group: Sequence[Job], several: bool, observer: Observer | None) -> None:
    """Train members to their ends: at once where they are of several and that may be, else in turn."""
    processes = Processes(prepare(group[0].resolved))
    if several and _jointly(group, Stack, processes, observer):
        return
    if several and _side_by_side(group, processes, observer):
        return
    for job in filter(lambda job: job.open, group):
        run = job.run()
        told = observer or _Named(job.member.name, Several(EpochLines(), Attendant(run)))
        try:
            fit(run, job.splits, processes, told)
        except DivergedError as failure:
            _tell(f"{job.member.name} diverged: {failure}")


def _side_by_side(group: Sequence[Job], processes: Processes, observer: Observer | None) -> bool:
    """Train members on streams of their own; False where some are left to be trained in turn."""
    try:
        parts = (group[first : first + SIDE_BY_SIDE] for first in range(0, len(group), SIDE_BY_SIDE))
        return all(_jointly(part, Streams, processes, observer) for part in parts)
    except torch.OutOfMemoryError:
        count = min(SIDE_BY_SIDE, len(group))
        _tell(f"{count} members at once do not fit into the GPU's memory; the rest is trained one after the other")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


class _Named:
    """Tells which member trains before its first word."""

    def __init__(self, name: str, observer: Observer):
        self.name, self.observer = name, observer

    def _begin(self) -> None:
        if self.name:
            print(f"{self.name}:", file=sys.stderr)
            self.name = ""

    def step(self, *told: Any) -> None:
        self._begin()
        self.observer.step(*told)

    def epoch(self, *told: Any) -> None:
        self._begin()
        self.observer.epoch(*told)


def _jointly(group: Sequence[Job], join: type[Joint], processes: Processes, observer: Observer | None) -> bool:
    """Train a group in one loop, holding its runs; False, and nothing was done, for one that cannot be trained so."""
    lines = Together(len(group))
    splits = _on_device(group[0].splits, group[0].resolved)
    with ExitStack() as held:
        trainers: list[Trainer] = []
        for job in group:
            run = job.run()
            held.enter_context(run.locked())
            run.clean()
            trainers.append(trainer_of(run, splits, processes, observer or lines))
            if not join.may(trainers[0]):
                return False
        if not join(trainers).agrees():
            return False
        JointTrainer(
            trainers, join, lambda trainer, failure: _ended(trainer, failure, lines, attended=observer is None)
        ).fit()
    return True


def _on_device(splits: Splits, resolved: Resolved) -> Splits:
    """All members read the same images; on a GPU they are copied there once, where they fit."""
    if resolved.device == "cpu":
        return splits
    from vaekit.training.feed import Resident, feed

    device = torch.device("cuda", torch.cuda.current_device())
    resident = feed(splits.train, lambda step: torch.empty(0, dtype=torch.int64), device)
    val = None if splits.val is None else splits.val.to(device)
    return replace(splits, train=resident.images, val=val) if isinstance(resident, Resident) else splits


def _ended(trainer: Trainer, failure: DivergedError | None, lines: Together, *, attended: bool) -> None:
    """A member's training has ended; where one looks on, its illnesses are told."""
    lines.left(diverged=failure is not None)
    if failure is None:
        keep(trainer)
        found = symptoms(trainer.run.metrics(), trainer.run.config, finished=True) if attended else []
        for finding in found:
            if finding.severity == "illness":
                _tell(f"{trainer.run.path.name}: {in_a_line(finding)}")
    else:
        trainer.run.note_failure(str(failure))
        _tell(f"{trainer.run.path.name} diverged: {failure}")


def _evaluation(
    job: Job, before: dict[str, Any] | None, samples: int, limit: int | None, data_dir: Any
) -> dict[str, Any]:
    """The record of a member on test images, measured anew where it was not measured so before."""
    asked = {"importance_samples": samples, "limit": limit}
    if before is not None and before.get("asked") == asked:
        return before
    device = job.member.config.training.device
    return {"asked": asked, **evaluate(job.path, "test", samples, data_dir=data_dir, limit=limit, device=device)}
