"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing, nullcontext

import torch
from torch import Tensor, nn

from vaekit.data.batches import Order
from vaekit.data.images import Images, Splits
from vaekit.errors import DivergedError, StoppedError
from vaekit.models.table import Model
from vaekit.native import library as native
from vaekit.networks.layers import on_device
from vaekit.noise import seed_key
from vaekit.objectives.table import MODEL
from vaekit.runs import Run
from vaekit.training.averaging import Average
from vaekit.training.checkpoints import Progress, load_checkpoint, restore, save_checkpoint
from vaekit.training.engine import runner, with_kernels
from vaekit.training.feed import feed
from vaekit.training.growing import Growth, growth
from vaekit.training.optimization import Optimizers, learning_rate
from vaekit.training.processes import Processes
from vaekit.training.reporting import Observer
from vaekit.training.settling import Settling
from vaekit.training.step import TrainingStep, numeric_fields, usage
from vaekit.training.stopping import asked_to_stop
from vaekit.training.sums import Sums
from vaekit.training.trainable import check_trainable, seeded_players, steps_of
from vaekit.training.validation import validate, with_bound

_LOOK_EVERY = 100  # steps between looks at the device: for the display, and to stop on a loss that is not finite


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
        self.total_steps = steps_of(self.settings, len(splits.train))
        self.growth = growth(model, config, splits.info, self.total_steps, device)
        trained, inference = dict(self.players), model.inference_parameters()
        if self.growth:
            trained[MODEL] = nn.ModuleList([model, self.growth.pyramid])
            inference += self.growth.pyramid.entrances.parameters()
            self.players["growth"] = self.growth.pyramid
        self.optimizers = Optimizers(trained, self.settings, device, self.objective.rates(), inference)
        decay = self.settings.ema_decay
        self.average = None if decay is None else Average(model, decay)
        self.kept = Settling(model, self.average, config.data, splits.train, config.training, processes, device)
        self.module = TrainingStep(
            model,
            self.objective,
            {name: self.players[name] for name in players},
            self.growth or config.data,
            len(splits.train),
            run.resolved.precision == "bfloat16",
            processes.gather,
            self.growth.weighed if self.growth else None,
        )
        self.order = Order(len(splits.train), size, self.settings.seed, device)
        on_host = Order(len(splits.train), size, self.settings.seed)
        self.feed = feed(splits.train, lambda step: processes.share(on_host.batch(step)), device)
        self.hyper = numeric_fields(self.objective)
        self.progress = Progress()
        self.best: dict[str, Tensor] | None = None
        self.sums = Sums(device)
        self.kernels = with_kernels(run.resolved, processes)
        self.run_step = runner(self._body, device)
        if run.checkpoint.exists():
            self._restore()

    def _restore(self) -> None:
        averages = self.average.tensors if self.average else {}
        self.progress, self.best = load_checkpoint(
            self.run.checkpoint, self.players, self.optimizers, self.device, averages
        )
        self.sums.restore(self.progress)
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
        with native.using(self.kernels):
            with self._grown():
                result = self.module(self.feed.images, index, key, step, hyper)
            self.optimizers.backward(result.losses)
        logged = self.sums.stacked(result.logged)
        # the logged means travel with the gradients: so the first process's checkpoint holds those of all
        tallies = {name: counts.float() for name, counts in result.draw.tallies.items()}
        self.processes.average(
            [*(weight.grad for weight in self.optimizers.all_parameters()), logged, *tallies.values()]
        )
        self.optimizers.step()
        with self._grown():  # what is held in bounds is what is at work
            self.objective.after_step(self.model, hyper)
        self.model.after_step(result.draw, self.processes.gather)
        if self.average and not self.growing:
            self.average.update(step - self.growth.whole_from if self.growth else step)
        self.sums.add(logged, tallies, step)

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
                    self.pause()
                    raise StoppedError(f"stopped at step {self.progress.step}; continue: vaekit resume {self.run.path}")

    def _agree(self, asked: bool) -> bool:
        """Whether any process was asked to stop; on several GPUs looked at now and then, since looking waits."""
        alone = self.processes.count == 1
        if not alone and self.device.type == "cuda" and self.progress.step % _LOOK_EVERY:
            return False
        return asked if alone else bool(self.processes.sum(torch.tensor(float(asked), device=self.device)) > 0)

    def _train_step(self) -> None:
        """One step, and what falls due after it."""
        started = time.perf_counter()
        self.take_step()
        self.stepped(time.perf_counter() - started)

    def take_step(self) -> None:
        """The next step alone; `stepped` is to be told of it."""
        step = self.progress.step
        self.feed.load(step)
        if self.growth and self.growth.begin(step):
            self._begin_phase(step, self.growth)
        self.run_step(*self.arguments(step))

    @property
    def growing(self) -> bool:
        """Whether the model is not yet whole: weights of now are no weights to keep."""
        return self.growth is not None and self.growth.growing

    def _begin_phase(self, step: int, growth: Growth) -> None:
        """Shapes or parts of the model are others from this step on, which may be the first after a resume."""
        self.run_step = runner(self._body, self.device)
        if growth.begins_stage(step):  # nats of images of two sizes have no mean
            self.progress.summed = 0
            self.sums.clear()
        if self.average and step == growth.whole_from:
            self.average.begin()

    def arguments(self, step: int) -> tuple[Tensor, int, int, dict[str, float]]:
        """Set the learning rate of a step; returns its images, the key of its noise, its number and the objective's."""
        self.optimizers.set_learning_rate(learning_rate(self.settings, step, self.total_steps))
        index = self.processes.share(self.order.batch(step))
        return index, seed_key(self.settings.seed, "train", step), step, self._hyper_at(step)

    def stepped(self, seconds: float) -> None:
        """Count a step that was taken, and do what falls due after it.

        Raises:
            DivergedError: when a loss or a weight is seen not to be finite.
        """
        epoch = self._epoch_of(self.progress.step)
        self.progress.step += 1
        self.progress.summed += 1
        self.progress.seconds += seconds
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
        return self.run.config.factors(epochs)

    def _hyper_at(self, step: int) -> dict[str, float]:
        factors = self._factors_at(step)
        return {name: value * factors.get(name, 1.0) for name, value in self.hyper.items()}

    def _images_per_second(self) -> float:
        return self.progress.step * self.settings.batch_size / max(self.progress.seconds, 1e-9)

    def _look(self) -> None:
        """Wait for the device, stop if a loss or a weight is not finite, and tell the observer."""
        started = time.perf_counter()
        bad = int(self.sums.first_bad)
        finite = torch.stack([weight.detach().isfinite().all() for weight in self.optimizers.all_parameters()]).all()
        self.progress.seconds += time.perf_counter() - started
        if bad >= 0 or not finite:
            what = f"the loss became infinite or NaN at step {bad}" if bad >= 0 else "a weight became infinite or NaN"
            advice = "lower --learning-rate, or set --gradient-clip, --warmup or --precision float32"
            raise DivergedError(f"{what}; {advice}")
        if self.processes.first and self.progress.summed:
            means = self.sums.means(self.progress.summed)
            self.observer.step(self.progress, self.total_steps, means, self._images_per_second())

    def _end_epoch(self, epoch: int) -> None:
        """Validate, record, keep the best weights, write the checkpoint."""
        self._look()
        progress, settings = self.progress, self.settings
        train = with_bound(self.sums.means(progress.summed)) | usage(self.sums.tallies)
        hyper = self._hyper_at(progress.step - 1)
        # what is minimized is not yet what was asked for: a bound from now would be no reason to keep these weights
        runs = self.growing or any(factor < 1.0 for factor in self._factors_at(progress.step - 1).values())
        val: dict[str, float] | None = None
        progress.epoch = epoch + 1
        if not self.growing:
            self.kept.renew()
        if self.val_images is not None:
            with self._shown():
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
            **(self.growth.record() if self.growth else {}),
        }
        progress.records.append(record)
        progress.finished = progress.step >= self.total_steps or self._out_of_patience()
        progress.summed = 0
        self.sums.clear()
        self.save()
        if self.processes.first:
            self.module.eval()
            with nullcontext() if self.growing else self.kept.applied():
                self.observer.epoch(record, settings.epochs, self.model)
            self.module.train()
        self.processes.wait()

    def _grown(self) -> AbstractContextManager[None]:
        """Within it the model is as it is trained: while it grows, with the networks of the present phase."""
        return self.growth.applied() if self.growth else nullcontext()

    def _shown(self) -> AbstractContextManager[None]:
        """Within it the model is as it is validated: as it would be kept or, while it grows, as it is trained."""
        return self._grown() if self.growing else self.kept.applied()

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

    def pause(self) -> None:
        """Write a checkpoint of this very step, if its numbers are finite."""
        self._look()
        self.save()

    def save(self) -> None:
        """Write checkpoint and metrics, on the first process."""
        if not self.processes.first:
            return
        self.sums.keep(self.progress)
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
