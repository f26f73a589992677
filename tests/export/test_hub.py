"""Models shared through a hub: the requests are those of huggingface_hub, the hub is one of this machine."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from commands import good, refused
from hub_server import TOKEN, Hub, serving
from vaekit.data.images import DataInfo
from vaekit.export.card import LICENCES, card
from vaekit.runs import Run
from vaekit.settings import preset
from vaekit.storage import load_model, save_model
from vaekit.trained import load

pytest.importorskip("huggingface_hub")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def running() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def hub(running: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", running.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    # the server takes large files as Git LFS has them, not by the chunks of the newer protocol
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    running.repositories.clear()
    return running


def test_a_model_comes_back_the_same(capsys: Capture, hub: Hub, trained_run: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run.path, run)
    (run / "figures").mkdir(exist_ok=True)
    (run / "figures" / "samples.png").write_bytes(b"a picture")
    (run / "evaluation-test.json").write_text(
        json.dumps(
            {"num_images": 180, "likelihood": "bernoulli", "measure": "surrogate", "nll_nats": None, "elbo_nats": -31.5}
        )
    )
    answer = good(capsys, "push", run, "me/digits-vae", "--json").record
    assert answer == {
        "url": f"{hub.url}/me/digits-vae",
        "files": ["README.md", "figures/samples.png", "model.safetensors"],
    }
    files = hub.repositories["me/digits-vae"]
    assert files["figures/samples.png"] == b"a picture"
    text = files["README.md"].decode()
    assert text.startswith("---\nlibrary_name: vaekit\n")
    assert "| ELBO | -31.500 | nats per image, higher is better |" in text
    assert "NLL" not in text
    assert "](figures/samples.png)" in text
    assert "vaekit pull me/digits-vae --out model" in text
    assert LICENCES["digits"] in text
    assert "pickle" not in "".join(files)
    assert good(capsys, "pull", "me/digits-vae", "--out", "again").out == "again/model.safetensors\n"
    assert sorted(path.name for path in Path("again").iterdir()) == ["README.md", "model.safetensors"]
    expected, found = load_model(trained_run.path)[0].state_dict(), load_model("again")[0].state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert good(capsys, "sample", "again", "--count", "2", "--out", "x.npy").code == 0


def test_paths_and_figures_stay_at_home(capsys: Capture, hub: Hub, tmp_path: Path) -> None:
    photos = str(tmp_path / "somebody" / "photos")
    config, info = preset("mlp"), DataInfo(photos, (1, 8, 8))
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, data=photos))
    model = config.model.build(info)
    (tmp_path / "run" / "figures").mkdir(parents=True)
    (tmp_path / "run" / "figures" / "samples.png").write_bytes(b"a picture")
    save_model(tmp_path / "run" / "model.safetensors", model, config, info, model.state_dict())
    good(capsys, "push", "run", "me/photos", "--private", "--no-figures")
    assert hub.private == {"me/photos"}
    files = hub.repositories["me/photos"]
    assert sorted(files) == ["README.md", "model.safetensors"]
    for content in files.values():
        assert b"somebody" not in content
    assert b"photos: unknown here." in files["README.md"]
    good(capsys, "pull", "me/photos", "--out", "again")
    assert load("again").info.name == "photos"


def test_every_kind_of_model_has_a_card(runs: dict[str, Run]) -> None:
    for run in runs.values():
        text = card(load(run.path), "me/model", None, [])
        assert "It was not measured" in text
        assert "## Figures" not in text
    assert "| labels | 0, 1, 2," in card(load(runs["cvae-onehot"].path), "me/model", None, [])


def test_what_is_no_model_of_vaekit_is_not_kept(capsys: Capture, hub: Hub, trained_run: Run, tmp_path: Path) -> None:
    good_file = trained_run.model.read_bytes()
    hub.repositories["me/other"] = {"model.safetensors": save({"weight": torch.zeros(3)})}
    hub.repositories["me/cut"] = {"model.safetensors": good_file[:-40]}
    hub.repositories["me/pickle"] = {"model.safetensors": b"\x80\x04cos\nsystem\n.", "pytorch_model.bin": b"x"}
    for name in ("me/other", "me/cut", "me/pickle"):
        sentence = refused(capsys, "pull", name, "--out", "there")
        assert sentence == f"'{name}': its model.safetensors is no model of this version of vaekit; choose another"
    hub.repositories["me/empty"] = {"README.md": b"x"}
    assert refused(capsys, "pull", "me/empty", "--out", "there") == (
        "'me/empty': holds no model.safetensors, so it is no model of vaekit; choose another"
    )
    assert not Path("there").exists()


def test_what_the_hub_refuses_is_one_sentence(
    capsys: Capture, hub: Hub, trained_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["me/model"] = {"model.safetensors": trained_run.model.read_bytes()}
    assert "'me/none' is not on the Hub, or not for you" in refused(capsys, "pull", "me/none", "--out", "x")
    assert "is no name on the Hub; write owner/model" in refused(capsys, "pull", "a/b/c", "--out", "x")
    assert "is no name on the Hub" in refused(capsys, "push", trained_run.path, "not a name")
    assert "has no such revision" in refused(capsys, "pull", "me/model", "--out", "x", "--revision", "v9")
    assert "holds a run already" in refused(capsys, "pull", "me/model", "--out", trained_run.path)
    assert "there is no model" in refused(capsys, "push", "nowhere", "me/model")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    assert "the Hub wants a token that may do so" in refused(capsys, "push", trained_run.path, "me/model")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for words in (("push", trained_run.path, "me/model"), ("pull", "me/model", "--out", "x")):
        assert "http://127.0.0.1:9 cannot be reached" in refused(capsys, *words)
    assert not Path("x").exists()


def test_without_the_package_the_extra_is_named(
    capsys: Capture, trained_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert refused(capsys, "push", trained_run.path, "me/model") == (
        "push: the package huggingface_hub is not installed; pip install vaekit[hub]"
    )
