"""GIFs read back with Pillow hold the frames that were asked for."""

import io

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vaekit.figures.animations import FRAME_MS, animation, there_and_back
from vaekit.figures.grids import image_grid


def frames(content):
    with Image.open(io.BytesIO(content)) as film:
        found = []
        for number in range(film.n_frames):
            film.seek(number)
            found.append((np.asarray(film.convert("RGB")), film.info["duration"]))
        return found, film.info


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(2, 6), st.integers(3, 30))
def test_grey_walks_are_kept_pixel_by_pixel(count, steps, side):
    walks = torch.rand(count, steps, 1, side, side, generator=torch.Generator().manual_seed(side))
    found, info = frames(animation(walks))
    assert info["loop"] == 0  # for ever
    order = [*range(steps), *range(steps - 2, 0, -1)]
    assert len(found) == len(order)
    scale = max(1, round(84 / side))
    for number, (pixels, _) in zip(order, found, strict=True):
        assert (pixels == np.asarray(image_grid(walks[:, number], scale=scale).convert("RGB"))).all()


def test_the_film_runs_at_about_twelve_frames_a_second_and_rests_at_both_ends():
    walks = torch.rand(2, 5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found, _ = frames(animation(walks))
    times = [duration for _, duration in found]
    assert 1000 / 13 <= FRAME_MS <= 1000 / 12
    assert times == [5 * FRAME_MS, FRAME_MS, FRAME_MS, FRAME_MS, 5 * FRAME_MS, FRAME_MS, FRAME_MS, FRAME_MS]
    assert sum(times) == FRAME_MS * len(there_and_back(5))


def test_colours_are_near_and_do_not_flicker_where_nothing_moves():
    generator = torch.Generator().manual_seed(0)
    still = torch.rand(1, 1, 3, 16, 16, generator=generator).expand(1, 4, -1, -1, -1)
    moving = torch.rand(1, 4, 3, 16, 16, generator=generator)
    found, _ = frames(animation(torch.cat([still, moving]), columns=2, scale=1))
    for pixels, _ in found:
        assert (pixels[:16, :16] == found[0][0][:16, :16]).all()
    wanted = np.asarray(image_grid(still[:, 0], scale=1)).astype(int)
    assert np.abs(found[0][0][:16, :16] - wanted).mean() < 24  # 256 colours for 1,280 random ones


def test_the_same_walks_give_the_same_bytes():
    walks = torch.rand(2, 3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert animation(walks) == animation(walks.clone())
