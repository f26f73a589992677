"""The order in which a report tells what a model does: what goes in, what comes out, and what lies between."""

from __future__ import annotations

from collections.abc import Callable

from vaekit.figures.embeddings import embedding_map
from vaekit.figures.latent import scatter
from vaekit.figures.levels import level_rates, level_samples
from vaekit.figures.line import histogram
from vaekit.figures.manifolds import manifold_map
from vaekit.figures.maps import principal_images, tsne, tsne_images
from vaekit.figures.pictures import class_samples, inputs, reconstructions, restorations, samples, samples_like
from vaekit.figures.rates import rate_bars
from vaekit.figures.restoration_table import RESTORATIONS
from vaekit.figures.style import Drawn
from vaekit.figures.subject import Subject
from vaekit.figures.walks import attribute_changes, four_corners, interpolations, style_transfer, traversals

STORY: tuple[Callable[[Subject], Drawn | None], ...] = (
    inputs,
    reconstructions,
    restorations,
    *RESTORATIONS,
    samples,
    class_samples,
    samples_like,
    level_samples,
    style_transfer,
    attribute_changes,
    embedding_map,
    manifold_map,
    level_rates,
    rate_bars,
    traversals,
    histogram,
    scatter,
    principal_images,
    tsne,
    tsne_images,
    interpolations,
    four_corners,
)
