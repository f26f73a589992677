"""Codes, maps, bars and walks: what they show is what the model says."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vaekit.figures import subject as subject_module
from vaekit.figures.embeddings import embedding_map, label_vectors
from vaekit.figures.latent import neighbours
from vaekit.figures.line import histogram
from vaekit.figures.maps import one_a_cell, principal_images, tsne, tsne_plane
from vaekit.figures.rates import rate_bars
from vaekit.figures.style import blit, new_figure, png, style
from vaekit.figures.subject import Subject
from vaekit.figures.walks import interpolations, signed, style_transfer, traversals
from vaekit.networks.conditioning import LabelEmbedding
from vaekit.runs import Run


@pytest.fixture(scope="module")
def subjects(runs: dict[str, Run]) -> dict[str, Subject]:
    """A plain and a conditional model with their images; their codes are measured once."""
    return {name: Subject.of(runs[name]) for name in ("mlp", "cvae-onehot")}


def pixels(drawn):
    with style():
        return np.asarray(Image.open(io.BytesIO(png(drawn.figure))).convert("RGB"))


def test_rates_are_those_of_the_closed_form_and_order_the_latents(subjects):
    subject = subjects["mlp"]
    with torch.no_grad():
        posterior = subject.model.encode(subject.images.unit())
    normal = torch.distributions.Normal(posterior.loc.double(), posterior.log_scale.double().exp())
    kl = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean(0)
    codes = subject.codes
    np.testing.assert_allclose(codes.rates, kl.numpy(), rtol=1e-5)
    assert codes.num_rated == len(subject.images)
    assert codes.order.tolist() == kl.argsort(descending=True).tolist()
    wanted = posterior.loc.var(0) > 0.01
    assert codes.active.tolist() == wanted.tolist()


def test_codes_do_not_depend_on_how_many_are_measured_at_once(subjects, monkeypatch):
    subject = subjects["cvae-onehot"]
    monkeypatch.setattr(subject_module, "_CODES_AT_ONCE", 37)
    again = dataclasses.replace(subject).codes
    np.testing.assert_allclose(again.means, subject.codes.means, atol=1e-6)
    np.testing.assert_allclose(again.rates, subject.codes.rates, rtol=1e-5)


def test_neighbours_against_a_plain_search(subjects):
    subject = subjects["mlp"]
    means, labels = subject.codes.means.astype(float), subject.codes.labels
    same = 0
    for place, mean in enumerate(means):
        distances = ((means - mean) ** 2).sum(1)
        distances[place] = np.inf
        same += labels[distances.argmin()] == labels[place]
    found, chance = neighbours(subject)
    assert found == pytest.approx(same / len(means))
    assert chance == pytest.approx(sum((labels == label).mean() ** 2 for label in range(10)))


def test_tsne_is_deterministic_and_keeps_neighbours(subjects):
    subject = subjects["mlp"]
    first = tsne_plane(subject).points
    assert (dataclasses.replace(subject).codes.tsne == first).all()
    means = subject.codes.means
    near = ((means[:, None] - means) ** 2).sum(-1) + np.eye(len(means)) * 1e9
    flat = ((first[:, None] - first) ** 2).sum(-1)
    rank = (flat < flat[np.arange(len(means)), near.argmin(1)][:, None]).sum(1)
    assert np.median(rank) < 0.1 * len(means)  # an image's nearest code is among the nearest in the map


def test_without_classes_the_points_of_tsne_are_left_out(subjects):
    subject = dataclasses.replace(subjects["mlp"])
    subject.info = dataclasses.replace(subject.info, class_names=())
    assert tsne(subject) is None
    with style():
        assert "class" not in principal_images(subject).caption


@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 9))
def test_thumbnails_never_share_a_cell_and_each_is_nearest_its_middle(seed, columns, rows):
    points = np.random.default_rng(seed).uniform(-0.2, 1.2, (60, 2)) * (columns, rows)
    chosen, cells = one_a_cell(points, columns, rows)
    assert len(set(cells)) == len(cells) == len(set(chosen.tolist()))
    inside = {}
    for place, (x, y) in enumerate(points):
        if 0 <= x < columns and 0 <= y < rows:
            inside.setdefault((int(x), int(y)), []).append(place)
    assert set(inside) == set(cells)
    for cell, place in zip(cells, chosen.tolist(), strict=True):
        gaps = {p: np.hypot(*(points[p] - np.array(cell) - 0.5)) for p in inside[cell]}
        assert gaps[place] == min(gaps.values())


def test_the_images_of_a_map_are_drawn_pixel_by_pixel(subjects):
    """Every image of the map is found again, as whole blocks of its pixels."""
    subject = subjects["mlp"]
    with style():
        drawn = principal_images(subject)
    picture = pixels(drawn)
    shown = int(drawn.caption.split(" of ")[0])
    scale, found = 8, 0  # 56 pixels for 8
    small = (subject.images.unit()[:, 0] * 255).round().byte().numpy()
    grey = picture[..., 0].astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(grey, (8 * scale,), axis=1)[..., scale // 2 :: scale]
    for image in small:
        for y, x in np.argwhere((windows == image[0].astype(int)).all(-1)):
            block = picture[y : y + 8 * scale, x : x + 8 * scale, 0]
            if block.shape == (64, 64) and (block == image.repeat(scale, 0).repeat(scale, 1)).all():
                found += 1
                break
    assert found >= shown


def test_blit_puts_pixels_where_it_says():
    image = np.random.default_rng(0).integers(0, 255, (31, 47, 3), np.uint8)
    for width, height in ((100, 77), (1746, 1606), (1800, 530)):
        with style():
            figure = new_figure(width, height)
            blit(figure, image, 13, 20)
            drawn = np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB"))
        assert drawn.shape == (height, width, 3)
        assert (drawn[height - 20 - 31 : height - 20, 13 : 13 + 47] == image).all()
        assert (drawn[:, :13] == 255).all()


@pytest.mark.parametrize("count", [2, 40, 200])
def test_bars_stand_for_the_rates_and_name_the_active(subjects, count):
    subject = dataclasses.replace(subjects["mlp"])
    rates = np.random.default_rng(0).uniform(0, 3, count)
    means = np.random.default_rng(1).normal(size=(50, count)) * np.where(np.arange(count) % 2, 1.0, 0.01)
    subject.codes = dataclasses.replace(subject.codes, means=means, rates=rates)
    with style():
        drawn = rate_bars(subject)
    bars, sums = drawn.figure.axes
    heights = [bar.get_height() for bar in bars.patches]
    assert heights == sorted(rates, reverse=True)
    shares = sums.get_lines()[0].get_ydata()
    np.testing.assert_allclose(shares, np.cumsum(heights) / rates.sum())
    texts = [text.get_text() for text in bars.get_legend().get_texts()]
    assert texts[:2] == [f"active: {count // 2} of {count}", f"not active: {count - count // 2}"]
    blue = [bar.get_facecolor() for bar in bars.patches]
    assert len(set(blue)) == 2
    assert f"together {rates.sum():.2f} nats" in drawn.caption
    most = int((np.cumsum(heights) < 0.9 * rates.sum()).sum()) + 1
    assert f"{most} latent" in drawn.caption


def test_a_model_without_rates_has_no_bars_but_traversals(subjects):
    subject = dataclasses.replace(subjects["mlp"])
    subject.codes = dataclasses.replace(subject.codes, rates=None)
    assert rate_bars(subject) is None
    assert subject.codes.order[0] == subject.codes.means.var(0).argmax()
    with style():
        labels = [text.get_text() for text in traversals(subject).figure.texts]
    assert not any("nats" in label for label in labels)


def test_numbers_are_written_for_readers():
    assert [signed(value) for value in (-2.5, -0.0, 0.0, 0.125, 1.0, -0.004)] == ["−2.5", "0", "0", "0.12", "1", "0"]  # noqa: RUF001


def test_lengths_of_lines_and_arcs_are_true(subjects):
    with style():
        caption = interpolations(subjects["mlp"]).caption
    assert ("cuts the corner" in caption) != ("look alike" in caption)


def test_style_transfer_is_for_models_that_read_labels(subjects):
    assert style_transfer(subjects["mlp"]) is None
    with style():
        heads = [text.get_text() for text in style_transfer(subjects["cvae-onehot"]).figure.texts]
    assert heads[1:] == ["image", *map(str, range(10))]


def test_label_vectors_are_shown_with_their_cosines(subjects):
    subject = dataclasses.replace(subjects["cvae-onehot"])
    assert label_vectors(subject) is None  # one-hot codes are not learned
    table = LabelEmbedding(10, 4)
    subject.model = type("Model", (torch.nn.Module,), {"num_classes": 10, "conditional": True})()
    subject.model.conditioning = table
    subject.model.code = table
    with style():
        drawn = embedding_map(subject)
    vectors = table.weight.detach().double().numpy()
    centred = vectors - vectors.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    shown = drawn.figure.axes[1].images[0].get_array()
    np.testing.assert_allclose(shown, unit @ unit.T, atol=1e-9)
    cosines = unit @ unit.T - 2 * np.eye(10)
    one, other = sorted(np.unravel_index(cosines.argmax(), cosines.shape))
    assert f"Closest are {one} and {other} ({cosines[one, other]:.2f})" in drawn.caption


def test_a_single_latent_is_shown_as_a_line(subjects):
    subject = dataclasses.replace(subjects["mlp"])
    assert histogram(subject) is None
    subject.codes = dataclasses.replace(subject.codes, means=subject.codes.means[:, :1])
    with style():
        axes = histogram(subject).figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [str(label) for label in range(9, -1, -1)]
