"""The throughput benchmark: its arithmetic, its processes, and that all systems train one network."""

from __future__ import annotations

import gzip
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vaekit.data.images import DataInfo
from vaekit.models.vae import VAEModel
from vaekit.settings import preset

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
PARAMETERS = (  # weights and biases, layer by layer, by hand
    (9 * 1 * 32 + 32)
    + (9 * 32 * 64 + 64)
    + (7 * 7 * 64 * 128 + 128)
    + 2 * (128 * 2 + 2)
    + (2 * 3136 + 3136)
    + (9 * 64 * 64 + 64)
    + (9 * 64 * 32 + 32)
    + (9 * 32 * 1 + 1)
)


@pytest.fixture(autouse=True)
def _paths(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.syspath_prepend(BENCHMARKS / "peers")


@pytest.fixture
def benchmark():
    return importlib.import_module("throughput")


@pytest.fixture
def comparison():
    return importlib.import_module("comparison")


@pytest.fixture
def timing(comparison):
    def make(seconds, images, loss=150.0, memory=500.0):
        return comparison.Timing(seconds, 2 * seconds, images, memory, loss)

    return make


def seed_model() -> VAEModel:
    return preset("conv-seed").model.build(DataInfo("mnist", (1, 28, 28), (), False, 60_000))


def test_throughput_cancels_what_both_processes_pay(comparison, timing):
    # 10 s of start-up in both; 100 images/s
    assert comparison.throughput(timing(12.0, 200), timing(16.0, 600)) == 100.0
    assert comparison.throughput(timing(112.0, 200), timing(116.0, 600)) == 100.0


def test_throughput_is_not_invented_when_runs_are_too_short(comparison, timing):
    assert comparison.throughput(timing(12.0, 200), timing(12.0, 600)) is None
    assert comparison.summary([1.0, None]) is None
    assert comparison.summary([]) is None


def test_summary(comparison):
    assert comparison.summary([5.0, 1.0, 3.0]) == {"median": 3.0, "min": 1.0, "max": 5.0}
    assert comparison.summary([4.0, 1.0]) == {"median": 2.5, "min": 1.0, "max": 4.0}


def test_ratios_are_taken_round_by_round(comparison):
    # the machine slows down: the ratio of the medians, 30 / 20, compares different rounds
    assert comparison.ratios([90.0, 30.0, 20.0], [45.0, 10.0, 20.0]) == [2.0, 3.0, 1.0]
    assert comparison.summary([2.0, 3.0, 1.0])["median"] == 2.0
    assert comparison.ratios([1.0, None], [2.0, 2.0]) == [0.5, None]


def test_order_turns_around(benchmark):
    assert [benchmark.order("abc", n) for n in range(3)] == [
        ["a", "b", "c"],
        ["c", "b", "a"],
        ["a", "b", "c"],
    ]


def test_precision_check_uses_the_mean_over_seeds_in_both_directions(comparison):
    # each seed is off by more than the tolerance, their mean is not
    assert comparison.precision_check([150.5, 149.5], [150.0, 150.0])["passed"]
    assert not comparison.precision_check([150.5, 150.5], [150.0, 150.0])["passed"]
    assert not comparison.precision_check([149.5, 149.5], [150.0, 150.0])["passed"]


def test_different_networks_are_refused(comparison):
    with pytest.raises(comparison.BenchmarkError, match=r"same network.*'keras': 11"):
        comparison.check_parameters({"vaekit": {"parameters": 10}, "keras": {"parameters": 11}})


def test_summarize_and_table(comparison, timing):
    rounds = {
        "vaekit": [{"low": timing(3, 100), "high": timing(5, 500, 150.1)} for _ in range(3)],
        "keras": [{"low": timing(3, 100), "high": timing(3 + s, 500)} for s in (4.0, 8.0, 2.0)],
        "vaekit-float32": [{"high": timing(9, 500, 150.0)} for _ in range(3)],
    }
    facts = {system: {"parameters": PARAMETERS, "versions": {}} for system in rounds}
    found = comparison.summarize(rounds, facts)
    assert found["systems"]["vaekit"]["images_per_second"]["median"] == 200.0
    assert found["systems"]["vaekit-float32"]["images_per_second"] is None
    assert found["ratios"] == {"keras": {"by_round": [2.0, 4.0, 1.0], "median": 2.0, "min": 1.0, "max": 4.0}}
    assert found["precision_check"]["mean_nats"] == pytest.approx(0.1)
    assert found["systems"]["keras"]["rounds"][1]["low"]["images_trained"] == 100
    json.dumps(found, allow_nan=False)
    assert "vaekit / keras: 2.00 (1.00 - 4.00)" in comparison.table(found)


def test_a_process_is_measured(benchmark, tmp_path):
    script = tmp_path / "child.py"
    script.write_text(
        "import json\nblock = bytearray(200 << 20)\nprint('chatter')\n"
        "print('RESULT ' + json.dumps({'images_trained': 7, 'test_loss_nats': 1.5}))\n"
    )
    timing, result = benchmark.run_process([sys.executable, str(script)], {})
    assert (timing.images_trained, timing.test_loss_nats) == (7, 1.5)
    assert result["images_trained"] == 7
    assert timing.peak_memory_mib > 200
    assert timing.seconds > 0
    assert timing.cpu_seconds > 0


def test_a_failing_process_says_why(benchmark, tmp_path):
    script = tmp_path / "child.py"
    script.write_text("raise SystemExit('no such data')")
    with pytest.raises(benchmark.BenchmarkError, match=r"(?s)child.py failed with 1.*no such data"):
        benchmark.run_process([sys.executable, str(script)], {})
    script.write_text("print('nothing of note')")
    with pytest.raises(benchmark.BenchmarkError, match="printed no result"):
        benchmark.run_process([sys.executable, str(script)], {})


def test_peers_see_neither_vaekit_nor_thread_settings(benchmark, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", "somewhere")
    assert not {"OMP_NUM_THREADS", "PYTHONPATH"} & set(benchmark.child_environment("keras"))
    assert Path(benchmark.child_environment("vaekit")["PYTHONPATH"], "vaekit").is_dir()
    assert "OMP_NUM_THREADS" not in benchmark.child_environment("vaekit")


@pytest.mark.parametrize(
    "arguments",
    [["--epochs", "6", "2"], ["--rounds", "0"], ["--systems", "keras", "--device", "cuda"]],
)
def test_bad_arguments_are_refused(benchmark, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        benchmark.parse(["--data-dir", "here", *arguments])
    assert stop.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_a_file_is_named_after_the_machine(benchmark):
    assert benchmark.slug("Intel(R) Xeon(R) CPU @ 2.20GHz") == "intel-r-xeon-r-cpu-2-20ghz"


def test_peers_read_idx(tmp_path):
    task = importlib.import_module("mnist_task")
    file = tmp_path / "images.gz"
    file.write_bytes(gzip.compress(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])))
    assert np.array_equal(task.read_idx(file), [[1, 2, 3], [4, 5, 6]])
    file.write_bytes(gzip.compress(b"<html>"))
    with pytest.raises(ValueError, match="not an IDX file"):
        task.read_idx(file)


def test_scripts_and_pins_exist_for_every_system(benchmark):
    for system, script in benchmark.SCRIPTS.items():
        assert (BENCHMARKS / "peers" / script).is_file()
        assert system == benchmark.BASE or "==" in (BENCHMARKS / "peers" / f"{system}.txt").read_text()
    assert importlib.import_module("mnist_task").RESULT == benchmark.RESULT


def test_vaekit_and_the_plain_network_have_the_same_parameters():
    network = importlib.import_module("torch_network")
    assert network.num_parameters(seed_model()) == PARAMETERS
    assert network.num_parameters(network.Encoder(), network.Decoder()) == PARAMETERS


def test_vaekit_and_the_plain_network_are_one_function():
    """With vaekit's weights copied over, the plain network gives the same posterior and the same logits."""
    network = importlib.import_module("torch_network")
    model, encoder, decoder = seed_model(), network.Encoder(), network.Decoder()
    posterior = model.posterior.map
    with torch.no_grad():
        for row, head in ((0, encoder.mean), (2, encoder.log_variance)):
            head.weight.copy_(posterior.weight[row : row + 2])
            head.bias.copy_(posterior.bias[row : row + 2])
        for ours, plain in ((model.encoder, encoder.features), (model.decoder, decoder)):
            for source, target in zip(ours.parameters(), plain.parameters(), strict=True):
                if source.shape == (128, 3136):  # vaekit flattens pixel by pixel, the plain network channel by channel
                    target.copy_(source.view(128, 49, 64).transpose(1, 2).flatten(1))
                elif source.shape[0] == 3136:
                    target.copy_(source.view(49, 64, -1).transpose(0, 1).reshape(target.shape))
                elif source.shape == target.shape:
                    target.copy_(source)
                else:  # the last layer: at stride 1 a transposed convolution is the mirrored convolution
                    target.copy_(source.flip(2, 3).transpose(0, 1))
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(3, 1, 28, 28, generator=generator)
        latents = torch.randn(3, 2, generator=generator)
        mean, log_variance = encoder(images)
        found = model.encode(images)
        torch.testing.assert_close(found.mean, mean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(2 * found.scale.log(), log_variance, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model.decode(latents).logits, decoder(latents), atol=1e-5, rtol=1e-4)


def test_pythae_has_the_same_parameters():
    pytest.importorskip("pythae", reason="Pythae lives in an environment of its own")
    network, peer = importlib.import_module("torch_network"), importlib.import_module("pythae_trainer")
    assert network.num_parameters(peer.build()) == PARAMETERS


def test_keras_has_the_same_parameters():
    pytest.importorskip("tensorflow", reason="TensorFlow lives in an environment of its own")
    peer = importlib.import_module("keras_fit")
    assert peer.num_parameters(peer.VAE()) == PARAMETERS
