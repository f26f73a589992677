"""The training loop."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

import torch
from torch import Tensor, nn

from vaekit.data.batches import Order
from vaekit.data.images import Images, Splits
from vaekit.errors import DivergedError, InputError, StoppedError
from vaekit.latents.table import PRIORS
from vaekit.models.table import PROVIDES, Model
from vaekit.networks.layers import on_device
from vaekit.noise import seed_key, seeded
from vaekit.objectives.table import MODEL, OBJECTIVES, trains_prior
from vaekit.runs import Run
from vaekit.settings import Config
from vaekit.training.averaging import Average
from vaekit.training.checkpoints import Progress, load_checkpoint, restore, save_checkpoint
from vaekit.training.engine import runner
from vaekit.training.feed import feed
from vaekit.training.optimization import Optimizers, learning_rate
from vaekit.training.processes import Processes
from vaekit.training.reporting import Observer
from vaekit.training.settling import Settling
from vaekit.training.step import TrainingStep, numeric_fields, usage
from vaekit.training.validation import validate, with_bound

_LOOK_EVERY = 100  # steps between looks at the device: for the display, and to stop on a loss that is not finite


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """An event that an interrupt or a termination signal sets; a second interrupt acts as ever."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def ask(number: int, frame: object) -> None:
        event.set()
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, ask)
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_trainable(config: Config, model: Model, splits: Splits, processes: Processes) -> None:
    """Refuse what cannot be trained, before anything is written.

    Raises:
        InputError: for a batch that the data or the processes cannot fill, an objective that needs of the model what
            it does not provide, or patience with nothing to be patient about.
    """
    size, num_images = config.training.batch_size, len(splits.train)
    if size > num_images:
        raise InputError(f"--batch-size: {size} is more than the {num_images} training images; lower it")
    if config.training.patience is not None and splits.val is None:
        raise InputError(
            f"--patience {config.training.patience}: no images are held out to judge by; add --validation 5000"
        )
    if config.training.patience is not None and (config.objective.selects is None or "rate" not in model.provides):
        raise InputError(
            f"--patience {config.training.patience}: there is no bound to judge by with this model and objective "
            f"{OBJECTIVES.name_of(config.objective)!r}; leave it out and set --epochs"
        )
    if size % processes.count:
        raise InputError(f"--batch-size: {size} cannot be shared by {processes.count} processes; use a multiple")
    learned = any(weight.requires_grad for weight in getattr(model, "prior", nn.Identity()).parameters())
    if learned and not trains_prior(config.objective, model.provides):
        prior, objective = PRIORS.name_of(config.model.prior), OBJECTIVES.name_of(config.objective)  # type: ignore[attr-defined]
        raise InputError(f"--prior {prior}: nothing trains it under objective {objective!r}; choose --prior standard")
    missing = sorted(config.objective.needs - model.provides)
    if missing:
        name = OBJECTIVES.name_of(config.objective)
        words = "; and ".join(PROVIDES.get(need, need) for need in missing)
        raise InputError(
            f"--objective {name}: needs {words}, which this model does not have; choose another of the two"
        )


def seeded_players(config: Config, splits: Splits) -> dict[str, nn.Module]:
    """The objective's own modules, initialized from the run's seed without touching torch's global generator.

    Raises:
        InputError: for images that they are not made for.
    """
    with seeded(config.training.seed, "players"):
        return config.objective.players(config.model.num_latents(splits.info), splits.info.shape)


class Trainer:
    """Trains the model of a run from wherever its checkpoint stands.

    Args:
        run: an open run folder, held by this process.
        splits: its data.
        model: freshly built from the run's configuration and seed.
        processes: this process's group.
        device: where to compute.
        observer: is told of steps and epochs, on the first process only.
    """

    def __init__(
        self, run: Run, splits: Splits, model: Model, processes: Processes, device: torch.device, observer: Observer
    ):
        config = run.config
        self.run, self.model, self.processes, self.device, self.observer = run, model, processes, device, observer
        self.settings, self.objective = config.training, config.objective
        self.val_images: Images | None = None if splits.val is None else splits.val.to(device)

        check_trainable(config, model, splits, processes)
        size = self.settings.batch_size
        players = seeded_players(config, splits)
        self.players: dict[str, nn.Module] = {
            name: on_device(module, device) for name, module in {MODEL: model, **players}.items()
        }
        self.optimizers = Optimizers(
            self.players, self.settings, device, self.objective.rates(), model.inference_parameters()
        )
        decay = self.settings.ema_decay
        self.average = None if decay is None else Average(model, decay)
        self.kept = Settling(model, self.average, config.data, splits.train, config.training, processes, device)
        self.module = TrainingStep(
            model,
            self.objective,
            {name: module for name, module in self.players.items() if name != MODEL},
            config.data,
            len(splits.train),
            run.resolved.precision == "bfloat16",
            processes.gather,
        )
        self.order = Order(len(splits.train), size, self.settings.seed, device)
        on_host = Order(len(splits.train), size, self.settings.seed)
        self.feed = feed(splits.train, lambda step: processes.share(on_host.batch(step)), device)
        self.total_steps = max(1, math.floor(self.settings.epochs * len(splits.train) / size))
        self.hyper = numeric_fields(self.objective)
        self.progress = Progress()
        self.best: dict[str, Tensor] | None = None
        self.names: list[str] = []
        self.sums: Tensor | None = None
        self.tallies: dict[str, Tensor] = {}
        self.first_bad = torch.tensor(-1, device=device)
        self.run_step = runner(self._body, device)
        if run.checkpoint.exists():
            self._restore()

    def _restore(self) -> None:
        averages = self.average.tensors if self.average else {}
        self.progress, self.best = load_checkpoint(
            self.run.checkpoint, self.players, self.optimizers, self.device, averages
        )
        if self.progress.sums:
            self.names = list(self.progress.sums)
            self.sums = torch.stack([self.progress.sums[name] for name in self.names])
        self.tallies = dict(self.progress.tallies)
        if self.processes.first and self.run.metrics() != self.progress.records:
            self.run.write_metrics(self.progress.records)  # the checkpoint is the authority

    def begin_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the players and the optimizers' moments in the tensors of another training's checkpoint.

        Players that are not among them stay as they are; averaged weights begin as the weights are now.
        """
        known = {name.split("/")[1] for name in tensors if name.startswith("player/")}
        restore(tensors, {name: module for name, module in self.players.items() if name in known}, self.optimizers)
        if self.average:
            self.average.begin()

    def _body(self, index: Tensor, key: Tensor, step: Tensor, hyper: Mapping[str, Tensor]) -> None:
        """One whole step: draw, losses, gradients, optimizers, sums for the log."""
        result = self.module(self.feed.images, index, key, step, hyper)
        self.optimizers.backward(result.losses)
        self.names = self.names or list(result.logged)
        logged = torch.stack([result.logged[name].float() for name in self.names])
        # the logged means travel with the gradients: so the first process's checkpoint holds those of all
        tallies = {name: counts.float() for name, counts in result.draw.tallies.items()}
        self.processes.average(
            [*(weight.grad for weight in self.optimizers.all_parameters()), logged, *tallies.values()]
        )
        self.optimizers.step()
        self.objective.after_step(self.model, hyper)
        self.model.after_step(result.draw, self.processes.gather)
        if self.average:
            self.average.update(step)
        values = logged.double()
        self.sums = values if self.sums is None else self.sums.add_(values)
        for name, counts in tallies.items():
            if name in self.tallies:
                self.tallies[name].add_(counts)
            else:
                self.tallies[name] = counts.double()
        bad = (self.first_bad < 0) & ~torch.isfinite(values).all()
        self.first_bad.copy_(torch.where(bad, step, self.first_bad))

    def fit(self) -> None:
        """Train to the end, or to early stopping.

        Raises:
            DivergedError: when a loss is not finite, with the last checkpoint intact.
            StoppedError: when the process was asked to stop by an interrupt or a termination signal, with a checkpoint of
                that very step.
        """
        self.module.train()
        with asked_to_stop() as stop, closing(self.feed):
            while not self.progress.finished:
                self._train_step()
                if not self.progress.finished and self._agree(stop.is_set()):
                    self._look()
                    self.save()
                    raise StoppedError(f"stopped at step {self.progress.step}; continue: vaekit resume {self.run.path}")

    def _agree(self, asked: bool) -> bool:
        """Whether any process was asked to stop; on several GPUs looked at now and then, since looking waits."""
        alone = self.processes.count == 1
        if not alone and self.device.type == "cuda" and self.progress.step % _LOOK_EVERY:
            return False
        return asked if alone else bool(self.processes.sum(torch.tensor(float(asked), device=self.device)) > 0)

    def _train_step(self) -> None:
        """One step, and what falls due after it."""
        step = self.progress.step
        epoch = self._epoch_of(step)
        started = time.perf_counter()
        self.feed.load(step)
        self.optimizers.set_learning_rate(learning_rate(self.settings, step, self.total_steps))
        index = self.processes.share(self.order.batch(step))
        self.run_step(index, seed_key(self.settings.seed, "train", step), step, self._hyper_at(step))
        self.progress.step += 1
        self.progress.summed += 1
        self.progress.seconds += time.perf_counter() - started
        if self.progress.step % _LOOK_EVERY == 0:
            self._look()
        if self.progress.step == min(self.order.steps_at(epoch + 1), self.total_steps):
            self._end_epoch(epoch)

    def _epoch_of(self, step: int) -> int:
        """The epoch, from 0, that a step's record belongs to."""
        epoch = step * self.settings.batch_size // self.order.num_images
        return epoch + 1 if step >= self.order.steps_at(epoch + 1) else epoch

    def _factors_at(self, step: int) -> dict[str, float]:
        epochs = step * self.settings.batch_size / self.order.num_images
        return {"beta": self.run.config.beta_schedule(epochs), **self.objective.factors(epochs)}

    def _hyper_at(self, step: int) -> dict[str, float]:
        factors = self._factors_at(step)
        return {name: value * factors.get(name, 1.0) for name, value in self.hyper.items()}

    def _images_per_second(self) -> float:
        return self.progress.step * self.settings.batch_size / max(self.progress.seconds, 1e-9)

    def _means(self) -> dict[str, float]:
        assert self.sums is not None
        return dict(zip(self.names, (self.sums / self.progress.summed).tolist(), strict=True))

    def _look(self) -> None:
        """Wait for the device, stop if a loss or a weight is not finite, and tell the observer."""
        started = time.perf_counter()
        bad = int(self.first_bad)
        finite = torch.stack([weight.detach().isfinite().all() for weight in self.optimizers.all_parameters()]).all()
        self.progress.seconds += time.perf_counter() - started
        if bad >= 0 or not finite:
            what = f"the loss became infinite or NaN at step {bad}" if bad >= 0 else "a weight became infinite or NaN"
            advice = "lower --learning-rate, or set --gradient-clip, --warmup or --precision float32"
            raise DivergedError(f"{what}; {advice}")
        if self.processes.first and self.progress.summed:
            self.observer.step(self.progress, self.total_steps, self._means(), self._images_per_second())

    def _end_epoch(self, epoch: int) -> None:
        """Validate, record, keep the best weights, write the checkpoint."""
        self._look()
        progress, settings = self.progress, self.settings
        train = with_bound(self._means()) | usage(self.tallies)
        hyper = self._hyper_at(progress.step - 1)
        # what is minimized is not yet what was asked for: a bound from now would be no reason to keep these weights
        runs = any(factor < 1.0 for factor in self._factors_at(progress.step - 1).values())
        val: dict[str, float] | None = None
        progress.epoch = epoch + 1
        self.kept.renew()
        if self.val_images is not None:
            with self.kept.applied():
                val = validate(self.module, self.val_images, settings.seed, progress.step, hyper, self.processes)
                if not runs:
                    self._select(val)
        record = {
            "epoch": progress.epoch,
            "step": progress.step,
            "seconds": round(progress.seconds, 3),
            "images_per_second": round(self._images_per_second(), 1),
            "learning_rate": learning_rate(settings, progress.step - 1, self.total_steps),
            **hyper,
            "train": _record(train),
            "val": None if val is None else _record(val),
            **({"schedule_runs": True} if runs else {}),
        }
        progress.records.append(record)
        progress.finished = progress.step >= self.total_steps or self._out_of_patience()
        progress.summed = 0
        if self.sums is not None:
            self.sums.zero_()
        for counts in self.tallies.values():
            counts.zero_()
        self.save()
        if self.processes.first:
            self.module.eval()
            with self.kept.applied():
                self.observer.epoch(record, settings.epochs, self.model)
            self.module.train()
        self.processes.wait()

    def _select(self, val: dict[str, float]) -> None:
        selects = self.objective.selects
        if selects is None or (elbo := val.get(selects)) is None or not math.isfinite(elbo):
            return
        if self.progress.best_elbo is None or elbo > self.progress.best_elbo:
            self.progress.best_elbo, self.progress.best_epoch = elbo, self.progress.epoch
            if self.settings.select_best:
                self.best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def _out_of_patience(self) -> bool:
        patience, best = self.settings.patience, self.progress.best_epoch
        return patience is not None and best is not None and self.progress.epoch - best >= patience

    def save(self) -> None:
        """Write checkpoint and metrics, on the first process."""
        if not self.processes.first:
            return
        if self.sums is not None and self.progress.summed:
            self.progress.sums = dict(zip(self.names, self.sums.clone(), strict=True))
        else:
            self.progress.sums = {}
        self.progress.tallies = {name: counts.clone() for name, counts in self.tallies.items()}
        averages = self.average.tensors if self.average else {}
        save_checkpoint(self.run.checkpoint, self.progress, self.players, self.optimizers, self.best, averages)
        self.run.write_metrics(self.progress.records)

    def weights(self) -> dict[str, Tensor]:
        """The weights to keep: the best on validation images where they were selected, else the last or their average.

        To be asked for by all processes together.
        """
        if self.best is not None:
            return self.best
        self.kept.renew()
        return self.kept.state()


def _record(means: dict[str, float]) -> dict[str, float | None]:
    """Means with the fields that every record has, null where a quantity does not exist."""
    always = ("loss", "elbo_nats", "rate_nats", "distortion_nats")
    return {**{name: means.get(name) for name in always}, **means}
