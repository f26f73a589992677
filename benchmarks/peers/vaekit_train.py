"""vaekit by default: `vaekit.train` on the `conv-seed` preset, run folder and checkpoints included."""

from __future__ import annotations

import tempfile

from mnist_task import arguments, report

import vaekit


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        run = vaekit.train(
            folder + "/run",
            "conv-seed",
            data_dir=options.data_dir,
            train_limit=options.images,
            epochs=options.epochs,
            seed=options.seed,
            device=options.device,
            precision=options.precision,
        )
        found = vaekit.evaluate(
            run.path,
            num_importance_samples=1,
            seed=options.seed,
            data_dir=options.data_dir,
            device=options.device,
        )
        model, config, _ = vaekit.load_model(run.path)
        steps = run.metrics()[-1]["step"]
    report(
        images_trained=steps * config.training.batch_size,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        test_loss_nats=-found["elbo_nats"],
        libraries=("torch", "numpy"),
        vaekit=vaekit.__version__,
        precision=run.resolved.precision,
        threads=run.resolved.threads,
    )


if __name__ == "__main__":
    main()
