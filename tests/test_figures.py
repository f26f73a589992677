"""Which figures exist for which model, and that their pixels are those of the images."""

import io
import shutil
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

import vaekit
from vaekit.errors import InputError
from vaekit.figures import image_grid, make_figures, save_grid
from vaekit.figures import latent as latent_module
from vaekit.figures import subject as subject_module
from vaekit.figures.basics import best_epoch
from vaekit.figures.curves import epoch_ticks, loss_curves
from vaekit.figures.latent import scatter
from vaekit.figures.pictures import restorations
from vaekit.figures.sheets import columns_that_fit, sheet
from vaekit.figures.style import PAGE, png, style
from vaekit.figures.subject import Subject, in_turn
from vaekit.figures.walks import in_class_pairs, interpolations
from vaekit.models.table import Model
from vaekit.runs import Run
from vaekit.settings import preset

SMALL = {
    "data": "digits",
    "train_limit": 300,
    "batch_size": 50,
    "epochs": 1,
    "network": "mlp",
    "hidden": (16,),
    "threads": 1,
}
ALWAYS = {"loss", "inputs", "interpolations", "latents", "corners", "traversals"}
WIDE = ALWAYS | {"rate", "latents-images"}
KINDS = {
    "plain": ("mlp", {"latent_dim": 5}, WIDE | {"reconstructions", "samples", "tsne", "tsne-images"}),
    "flat": ("mlp", {"latent_dim": 2}, WIDE | {"reconstructions", "samples", "manifold"}),
    "line": ("mlp", {"latent_dim": 1}, ALWAYS | {"reconstructions", "samples", "manifold"}),
    "conditional": (
        "cvae-onehot",
        {},
        WIDE | {"reconstructions", "class-samples", "style-transfer", "manifold"},
    ),
    "conditional-line": (
        "cvae-onehot",
        {"latent_dim": 1},
        ALWAYS | {"reconstructions", "class-samples", "style-transfer", "manifold"},
    ),
    "embedding": (
        "cvae-embedding",
        {"latent_dim": 3},
        WIDE | {"reconstructions", "class-samples", "style-transfer", "label-vectors", "tsne", "tsne-images"},
    ),
    "restoring": (
        "denoising",
        {},
        WIDE | {"restorations", "restoration-by-strength", "restoration-by-method", "samples", "tsne", "tsne-images"},
    ),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A small run of each kind, trained when first asked for."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def get(kind: str) -> Run:
        if kind not in made:
            preset, given, _ = KINDS[kind]
            made[kind] = vaekit.train(folder / kind, preset, **SMALL, **given)
        return made[kind]

    return get


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_has_the_figures_that_make_sense_and_no_other(runs, kind):
    run = runs(kind)
    files = make_figures(run)
    assert {file.path.stem for file in files} == KINDS[kind][2]
    assert {path.name for path in run.figures.iterdir()} == {file.path.name for file in files}  # nothing half-written
    for file in files:
        with Image.open(file.path) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert picture.width <= PAGE
        assert file.title
        assert file.caption.endswith(".")


def test_unlabelled_colour_images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (120, 12, 10, 3), np.uint8)
    np.save(tmp_path / "noise.npy", pixels)
    run = vaekit.train(tmp_path / "run", "mlp", **{**SMALL, "data": str(tmp_path / "noise.npy"), "batch_size": 16})
    files = {file.path.stem: file for file in make_figures(run)}
    assert set(files) == KINDS["plain"][2] - {"tsne", "tsne-images"}  # only 12 images were held out
    assert "class" not in files["latents"].caption
    assert "class" not in files["latents-images"].caption
    with Image.open(files["inputs"].path) as picture:
        seen = np.asarray(picture.convert("RGB"))[80:100, 20:40].reshape(-1, 3).astype(int)
    assert (np.ptp(seen, axis=1) > 0).any()  # in colour


def test_a_model_that_reads_attributes(tmp_path):
    generator = np.random.default_rng(0)
    brightness = generator.uniform(0.1, 0.9, 200)
    pixels = (generator.uniform(0, 1, (200, 8, 8)) * brightness[:, None, None] * 255).astype(np.uint8)
    attributes = np.stack([brightness, np.full(200, np.nan)], 1).astype(np.float32)
    np.savez(tmp_path / "own.npz", images=pixels, attributes=attributes)
    given = {**SMALL, "data": str(tmp_path / "own.npz"), "latent_dim": 2, "conditioning": "attributes"}
    files = {file.path.stem: file for file in make_figures(vaekit.train(tmp_path / "run", "mlp", **given))}
    assert set(files) == WIDE | {"reconstructions", "attribute-samples", "attributes", "manifold"}
    assert not any("class" in file.caption for file in files.values())
    assert "under the image's own attributes" in files["traversals"].caption


def test_a_model_with_neither_encoder_nor_prior_has_its_curves_and_inputs(runs, monkeypatch):
    class Bare(Model):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

    run = runs("plain")
    _, config, info = vaekit.load_model(run.model)
    monkeypatch.setattr("vaekit.figures.subject.load_model", lambda path: (Bare(), config, info))
    assert [file.path.stem for file in make_figures(run)] == ["loss", "inputs"]


def test_a_model_that_cannot_be_sampled_has_no_samples(runs, monkeypatch):
    monkeypatch.setattr(type(vaekit.load_model(runs("flat").model)[0]), "sample_prior", Model.sample_prior)
    assert {file.path.stem for file in make_figures(runs("flat"))} == WIDE | {"reconstructions"}


def test_without_weights_there_is_one_sentence(runs, tmp_path):
    shutil.copytree(runs("plain").path, tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="there is no model"):
        make_figures(Run(tmp_path / "run"))


def test_without_a_finished_epoch_there_are_no_curves(runs, tmp_path):
    shutil.copytree(runs("plain").path, tmp_path / "run")
    run = Run(tmp_path / "run")
    run.write_metrics([])
    assert "loss" not in {file.path.stem for file in make_figures(run)}


def test_the_same_run_gives_the_same_bytes_whatever_the_users_settings(runs):
    run = runs("conditional")
    first = {file.path.name: file.path.read_bytes() for file in make_figures(run)}
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9}):
        second = {file.path.name: file.path.read_bytes() for file in make_figures(run)}
        assert matplotlib.rcParams["font.size"] == 30  # and theirs are left alone
    assert first == second


def test_importing_the_package_does_not_import_matplotlib():
    code = "import sys, vaekit.figures, vaekit.report.page; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# grids


def test_image_grid_is_exact():
    images = torch.tensor([[[[0.0, 1.0]]], [[[0.5, 0.25]]], [[[1.0, 0.0]]]])  # three of 1x2
    picture = image_grid(images, columns=2, scale=2)
    white = [255, 255]
    top = [0, 0, 255, 255, *white, 128, 128, 64, 64]
    bottom = [255, 255, 0, 0, *white, 255, 255, 255, 255]  # an empty place is white
    blank = [255] * 10
    assert picture.mode == "L"
    assert np.asarray(picture).tolist() == [top, top, blank, blank, bottom, bottom]


def test_image_grid_in_colour_and_with_other_channels():
    colour = torch.tensor([1.0, 0.0, 0.2]).view(1, 3, 1, 1)
    assert image_grid(colour, scale=1).getpixel((0, 0)) == (255, 0, 51)
    with_alpha = torch.cat([colour, torch.zeros(1, 1, 1, 1)], 1)
    assert image_grid(with_alpha, scale=1).getpixel((0, 0)) == (255, 0, 51)
    assert image_grid(colour[:, :2], scale=1).getpixel((0, 0)) == 255


def test_image_grid_shows_values_out_of_range_as_black_and_white():
    images = torch.tensor([[[[-0.5, 1.5]]]])
    assert np.asarray(image_grid(images, scale=1)).tolist() == [[0, 255]]


@given(
    count=st.integers(1, 12),
    columns=st.none() | st.integers(1, 14),
    scale=st.none() | st.integers(1, 4),
    side=st.integers(1, 70),
)
@settings(max_examples=40, deadline=None)
def test_every_image_can_be_read_back_from_a_grid(count, columns, scale, side):
    values = torch.randint(0, 256, (count, 1, side, side), generator=torch.Generator().manual_seed(count))
    picture = np.asarray(image_grid(values / 255.0, columns, scale))
    across = min(count, columns or int(np.ceil(np.sqrt(count))))
    step = (picture.shape[1] + 2) // across
    used = (step - 2) // side
    assert used == (scale or max(1, -(-56 // side)))
    for place, image in enumerate(values[:, 0].numpy()):
        top, left = place // across * step, place % across * step
        tile = picture[top : top + side * used, left : left + side * used]
        assert (tile == np.kron(image, np.ones((used, used)))).all()


def test_a_grid_of_nothing_is_refused():
    with pytest.raises(InputError, match="at least 1"):
        image_grid(torch.zeros(0, 1, 8, 8))


def test_save_grid(tmp_path):
    images = torch.rand(5, 1, 8, 8)
    path = save_grid(images, tmp_path / "five.PNG", columns=5)
    with Image.open(path) as picture:
        assert (np.asarray(picture) == np.asarray(image_grid(images, 5))).all()
    with Image.open(save_grid(images, tmp_path / "five.jpg")) as picture:
        assert picture.format == "JPEG"
    with pytest.raises(InputError, match=r"'five.txt' does not end in an image format; use .png"):
        save_grid(images, "five.txt")
    with pytest.raises(InputError, match="cannot be written"):
        save_grid(images, tmp_path / "missing" / "five.png")


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 20), (1, 64, 64), (3, 200, 180)])
def test_a_sheet_draws_whole_blocks_of_pixels(shape):
    images = torch.rand(2, 2, *shape, generator=torch.Generator().manual_seed(0))
    with style():
        content = png(sheet("T", images, ["a", "b"], ["x", "y"], notes={0: ["1", "2"]}))
    drawn = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    wanted = (images * 255).round().byte().movedim(2, -1).numpy()
    wanted = np.broadcast_to(wanted, (*wanted.shape[:-1], 3))
    scale = max(1, 2 * round(56 / max(shape[1:])))
    top = 64 + 40
    left = next(x for x in range(drawn.shape[1]) if (drawn[top, x : x + scale] == wanted[0, 0, 0, 0]).all())
    height, width = shape[1] * scale, shape[2] * scale
    for row in range(2):
        for column in range(2):
            y, x = top + row * (height + 4 + 34), left + column * (width + 4)
            blocks = wanted[row, column].repeat(scale, 0).repeat(scale, 1)
            assert (drawn[y : y + height, x : x + width] == blocks).all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 64, 64), (3, 218, 178), (3, 1024, 512), (1, 4, 2000)])
def test_a_full_row_of_any_images_fits_the_page(shape):
    columns = columns_that_fit(shape, "reconstruction")
    with style():
        figure = sheet("", torch.zeros(1, columns, *shape), ["reconstruction"])
    assert columns >= 1
    assert figure.bbox.width <= PAGE


# what is shown


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_in_turn_is_a_fair_permutation(labels):
    order = in_turn(torch.tensor(labels), len(labels)).tolist()
    assert sorted(order) == list(range(len(labels)))
    seen: dict[int, list[int]] = {}
    turns = []
    for place in order:
        seen.setdefault(labels[place], []).append(place)
        turns.append((len(seen[labels[place]]), labels[place]))
    assert turns == sorted(turns)  # every class once, then every class twice, ...
    assert all(places == sorted(places) for places in seen.values())


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_pairs_stay_within_a_class(labels):
    pairs = in_class_pairs(torch.tensor(labels)).tolist()
    used = [place for pair in pairs for place in pair]
    assert len(used) == len(set(used))
    assert all(labels[a] == labels[b] for a, b in pairs)
    assert len(pairs) == sum(labels.count(label) // 2 for label in set(labels))


def test_a_conditional_model_interpolates_within_a_class(runs, monkeypatch):
    subject = Subject.of(runs("conditional"))
    taken = []
    batch = subject.batch
    monkeypatch.setattr(subject, "batch", lambda index: taken.append(batch(index)) or taken[-1])
    with style():
        interpolations(subject)
    first, last = taken
    assert (first.condition == last.condition).all()
    assert (first.index != last.index).all()


def test_latents_are_posterior_means_of_held_out_images(runs, monkeypatch):
    monkeypatch.setattr(subject_module, "_MOST_CODES", 50)
    subject = Subject.of(runs("plain"))
    assert subject.split == "validation"
    means, labels = subject.codes.means, subject.codes.labels
    pixels = subject.images.pixels[:50].permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        wanted = subject.model.encode(pixels).mean
    np.testing.assert_allclose(means, wanted.numpy(), atol=1e-6)
    assert labels.tolist() == subject.images.labels[:50].tolist()


def test_axes_say_how_much_variance_they_explain(runs):
    subject = Subject.of(runs("plain"))
    means = subject.codes.means
    values = np.linalg.svd(means - means.mean(0), compute_uv=False) ** 2
    shares = values / values.sum()
    with style():
        axes = scatter(subject).figure.axes[0]
    assert f"({shares[0]:.0%} of the variance" in axes.get_xlabel()
    assert f"({shares[1]:.0%} of the variance" in axes.get_ylabel()


def test_the_prior_stands_at_its_place_among_the_principal_components(runs):
    subject = Subject.of(runs("plain"))
    means = subject.codes.means
    points, centre, _ = latent_module._principal(np.vstack([means, np.zeros(means.shape[1])]))
    np.testing.assert_allclose(points[-1], centre, atol=1e-5)  # where a code of zeros falls
    draws = np.random.default_rng(0).standard_normal((100_000, 2))
    inside = (np.hypot(*draws.T) < latent_module._RADIUS).mean()
    assert abs(inside - 0.95) < 5 * np.sqrt(0.95 * 0.05 / 100_000)


@pytest.mark.filterwarnings("error")
def test_any_class_name_can_be_drawn(runs):
    subject = Subject.of(runs("plain"))
    names = ("$\\frac{", "_hidden", "a" * 90, "<b>", "{x}", "%s", "\\n", "ß", "", "10^6")
    subject.info = vaekit.load_model(runs("plain").model)[2].__class__(**{**vars(subject.info), "class_names": names})
    with style():
        drawn = scatter(subject)
        png(drawn.figure)
        shown = [text.get_text().strip() for text in drawn.figure.axes[0].get_legend().get_texts()]
    assert len(shown) == 10
    assert shown[:2] == ["$\\frac{", "_hidden"]
    assert len(shown[2]) < 30


def test_restorations_state_the_psnr_of_what_they_show(runs):
    subject = Subject.of(runs("restoring"))
    assert subject.split == "training"  # the preset holds nothing out, and test images are for evaluate
    with style():
        drawn = restorations(subject)
    batch = subject.examples(2 * columns_that_fit((1, 8, 8), "corrupted"))
    error = ((batch.input - batch.target) ** 2).flatten(1).mean(1)
    values = (10 * torch.log10(1 / error)).tolist()
    texts = {text.get_text() for text in drawn.figure.texts}
    assert {f"{value:.1f} dB" for value in values} <= texts
    assert f"from {np.mean(values):.1f} to" in drawn.caption


# curves


def records(*bounds):
    part = {"loss": 1.0, "rate_nats": 1.0, "distortion_nats": 1.0}
    return [
        {"epoch": epoch, "train": {**part, "elbo_nats": -1.0}, "val": {**part, "elbo_nats": bound}}
        for epoch, bound in enumerate(bounds, 1)
    ]


def test_best_epoch():
    assert best_epoch(records(-3.0, -1.0, -2.0)) == 2
    assert best_epoch(records(-1.0, -1.0)) == 1  # the first of equals, as training keeps it
    assert best_epoch(records(None, None)) is None
    assert best_epoch([{**record, "val": None} for record in records(-3.0, -1.0)]) is None
    assert best_epoch([]) is None


def test_best_epoch_is_that_of_the_bound_that_chose_the_weights():
    bounds = [(-80.0, -79.0), (-85.0, -70.0), (-90.0, -75.0)]
    records = [
        {"epoch": n, "val": {"elbo_nats": elbo, "iw_elbo_nats": tight}} for n, (elbo, tight) in enumerate(bounds, 1)
    ]
    assert best_epoch(records) == 1
    assert best_epoch(records, "iw_elbo_nats") == 2
    assert best_epoch(records, None) is None


@given(st.integers(1, 100_000))
def test_epoch_ticks_are_few_and_reach_both_ends(last):
    ticks = epoch_ticks(last)
    assert ticks[0] == 1
    assert ticks[-1] == last
    assert len(ticks) <= 6
    assert ticks == sorted(set(ticks))


def test_curves_show_what_was_recorded(runs):
    class Recorded:
        config = preset("mlp")

        def metrics(self):
            return records(-3.0, -1.0, -2.0)

    with style():
        drawn = loss_curves(Recorded())
    titles = [axes.get_title("left") for axes in drawn.figure.axes]
    assert [title.split(":")[0] for title in titles] == ["Loss", "Distortion", "Rate"]
    assert "epoch 2" in drawn.caption
    for axes in drawn.figure.axes:
        lines = [line for line in axes.get_lines() if len(line.get_xdata()) == 3]
        assert len(lines) == 2
        assert all(list(line.get_xdata()) == [1, 2, 3] for line in lines)


@pytest.mark.parametrize("losses", [(3.0, 1.0), (22450.0, 19300.0), (-5200.0, -8900.0)])
def test_the_curves_labels_stay_apart(losses):
    """Whatever the number of digits, nothing leaves the figure and a label ends before the next panel's numbers."""

    class Recorded:
        config = preset("mlp")

        def metrics(self):
            parts = [{"loss": loss, "rate_nats": 5.0, "distortion_nats": loss, "elbo_nats": -loss} for loss in losses]
            return [{"epoch": epoch, "train": part, "val": part} for epoch, part in enumerate(parts, 1)]

    with style():
        figure = loss_curves(Recorded()).figure
        FigureCanvasAgg(figure).draw()
        assert figure.axes[0].yaxis.label.get_window_extent().x0 >= 0
        boxes = [[text.get_window_extent() for text in axes.texts] for axes in figure.axes]
        edges = [min(tick.get_window_extent().x0 for tick in axes.get_yticklabels()) for axes in figure.axes]
    ends = [max(box.x1 for box in panel) for panel in boxes]
    assert ends[0] < edges[1]
    assert ends[1] < edges[2]
    assert ends[2] <= figure.bbox.x1


def test_a_plain_autoencoder_has_no_rate_panel():
    class Recorded:
        config = preset("mlp")

        def metrics(self):
            parts = records(None, None)
            for record in parts:
                for part in (record["train"], record["val"]):
                    part["rate_nats"] = part["elbo_nats"] = None
            return parts

    with style():
        drawn = loss_curves(Recorded())
        png(drawn.figure)
    assert len(drawn.figure.axes) == 2
