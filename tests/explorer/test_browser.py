"""The page in a real browser: headless Chromium, where it is installed."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image

import vaekit
from helpers_run import interrupted_at
from vaekit.errors import RunError
from vaekit.explorer.opened import Opened
from vaekit.explorer.server import create_app
from vaekit.explorer.sheets import to_levels
from vaekit.training.reporting import Silent

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def served(opened: dict[str, Opened]) -> Iterator[str]:
    yield from serving(opened["classes"])


def serving(opened: Opened) -> Iterator[str]:
    """The address of a server on a port of its own."""
    server = uvicorn.Server(uvicorn.Config(create_app(opened), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(5)


@pytest.fixture
def page(browser: Any, served: str) -> Iterator[Any]:
    yield from visit(browser, served)


def visit(browser: Any, address: str, **given: Any) -> Iterator[Any]:
    """A page that has to end without an error on its console."""
    context = browser.new_context(viewport={"width": 1200, "height": 800}, **given)
    found = context.new_page()
    problems: list[str] = []
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.on("console", lambda said: problems.append(said.text) if is_problem(said) else None)
    found.goto(address)
    found.wait_for_selector("html[data-ready=yes]", state="attached", timeout=30_000)
    yield found
    context.close()
    assert not problems


def is_problem(said: Any) -> bool:
    """Whether a word on the console is one; that tests read canvases often is not."""
    return said.type in ("error", "warning") and "willReadFrequently" not in said.text


def levels(page: Any, canvas: str = "#image") -> np.ndarray:
    """Red levels of a canvas, (height, width)."""
    found = page.eval_on_selector(
        canvas,
        "c => [c.height, c.width, Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]",
    )
    return np.array(found[2], np.uint8).reshape(found[0], found[1], 4)[..., 0]


def settled(page: Any, before: np.ndarray | None = None, canvas: str = "#image") -> np.ndarray:
    """What a canvas shows once it no longer changes, and differs from `before`."""
    last = levels(page, canvas)
    for _ in range(100):
        page.wait_for_timeout(60)
        now = levels(page, canvas)
        if np.array_equal(now, last) and (before is None or not np.array_equal(now, before)):
            return now
        last = now
    raise AssertionError("the image did not change")


def state(page: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The code and the weights that the page says it shows."""
    code, weights = page.evaluate("[Array.from(explorer.model.code), Array.from(explorer.model.weights)]")
    return torch.tensor([code], dtype=torch.float32), torch.tensor([weights], dtype=torch.float32)


def test_what_is_shown_is_what_the_model_decodes(page: Any, opened: dict[str, Opened]) -> None:
    image = settled(page)
    for move in (
        lambda: page.mouse.move(300, 300),  # over the map
        lambda: page.mouse.move(420, 460),
        lambda: page.click("[data-class='7']"),
        lambda: page.locator("#panel input[type=range]").first.fill("1.2"),
        lambda: page.click("#randomize"),
        lambda: page.locator("#cursor").press("ArrowLeft"),
    ):
        move()
        image = settled(page, image)
        code, weights = state(page)
        expected = to_levels(opened["classes"].scene.decoded(code, weights))[0, 0].numpy()
        assert np.abs(image.astype(int) - expected).max() <= 1


def test_a_link_opens_the_same_view(page: Any, browser: Any, served: str) -> None:
    page.click("[data-class='4']")
    page.mouse.move(350, 350)
    page.mouse.click(351, 352)
    page.click("text=Mix")
    page.mouse.move(350, 340)
    page.mouse.wheel(0, -400)
    image = settled(page)
    page.wait_for_timeout(500)
    link = page.url
    assert "#" in link
    for other in visit(browser, link):
        np.testing.assert_array_equal(settled(other), image)
        assert other.locator("#tabs [aria-selected=true]").inner_text() == "Mix"
        assert other.evaluate("explorer.view.view.k") == pytest.approx(page.evaluate("explorer.view.view.k"), rel=1e-3)


def test_an_image_that_is_dropped_shows_what_the_model_makes_of_it(
    page: Any, opened: dict[str, Opened], tmp_path: Path
) -> None:
    scene = opened["classes"].scene
    assert scene.images is not None
    pixels = scene.images.pixels[11, ..., 0].numpy()
    Image.fromarray(pixels).save(tmp_path / "own.png")
    assert scene.images.labels is not None
    page.click(f"[data-class='{int(scene.images.labels[11])}']")
    page.click("text=Own image")
    page.set_input_files("input[type=file]", tmp_path / "own.png")
    page.wait_for_selector("#own-heat")
    np.testing.assert_array_equal(levels(page, "#own-input"), pixels)
    code, _ = state(page)
    np.testing.assert_allclose(code[0].numpy(), scene.codes.means[11], atol=1e-4)
    assert "Mean squared error" in page.inner_text("#own")
    assert page.locator("#own .eight canvas").count() == 8


def test_slots_lines_squares_and_directions(page: Any) -> None:
    for place, key in ((200, "1"), (320, "2"), (440, "3"), (520, "4")):
        page.mouse.move(place, place)
        settled(page)
        page.keyboard.press(key)
    page.click("text=Mix")
    square = settled(page, np.zeros((48, 48), np.uint8), "canvas.grid")
    first, last = (levels(page, f"[data-slot={name}] canvas") for name in "AD")
    np.testing.assert_array_equal(square[:8, :8], first)
    np.testing.assert_array_equal(square[-8:, -8:], last)
    before = settled(page)
    page.get_by_text("+ C", exact=False).click()
    settled(page, before)
    a, b, c = page.evaluate("explorer.mix.slots.slice(0, 3).map((slot) => Array.from(slot.code))")
    np.testing.assert_allclose(state(page)[0][0].numpy(), np.array(a) - np.array(b) + np.array(c), atol=1e-5)
    page.click("text=Directions")
    before = settled(page)
    page.locator("#panel input[type=range]").fill("1.5")
    settled(page, before)


def test_the_class_vectors_are_a_map_of_their_own(page: Any) -> None:
    before = settled(page)
    box = page.locator("#class-pad").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.up()
    settled(page, before)
    weights = state(page)[1][0]
    assert weights.sum() == pytest.approx(1.0, abs=1e-5)
    assert 0.05 < weights.max() < 1.0


def test_guidance_goes_on_from_the_image_of_no_class(browser: Any, opened: dict[str, Opened]) -> None:
    scene = opened["guided"].scene
    for address in serving(opened["guided"]):
        for page in visit(browser, address):
            image = settled(page)
            page.click("[data-class='7']")
            image = settled(page, image)
            page.fill("#guidance", "4")
            image = settled(page, image)
            assert page.inner_text("#guidance-text") == "4.0"
            code, weights = state(page)
            with scene.model.guided(4.0):
                expected = to_levels(scene.decoded(code, weights))[0, 0].numpy()
            assert np.abs(image.astype(int) - expected).max() <= 1
            page.wait_for_timeout(400)
            link = page.evaluate("location.href")
        for page in visit(browser, link):
            assert np.array_equal(settled(page), image)
            assert page.input_value("#guidance") == "4"


def test_a_phone_and_a_dark_room(browser: Any, served: str) -> None:
    for page in visit(browser, served, color_scheme="dark", is_mobile=True, has_touch=True):
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        before = settled(page)
        page.touchscreen.tap(120, 200)
        settled(page, before)


def test_a_cell_takes_another_code(browser: Any, opened: dict[str, Opened]) -> None:
    scene = opened["codes"].scene
    for address in serving(opened["codes"]):
        for page in visit(browser, address):
            image = settled(page)
            page.click("#code-cells", position={"x": 20, "y": 20})
            page.wait_for_function("document.querySelector('#code-note').textContent.startsWith('row 1, column 1')")
            before = state(page)[0]
            order = scene.description["codebook"]["order"]
            now = page.evaluate("explorer.panel.codeAt(0).code")
            place = next(place for place, code in enumerate(order) if code != now)
            box = page.query_selector("#code-palette").bounding_box()
            page.click("#code-palette", position={"x": (place + 0.5) * box["width"] / 12, "y": box["height"] / 2})
            image = settled(page, image)
            code, weights = state(page)
            vectors = scene.book.vectors  # type: ignore[union-attr]
            torch.testing.assert_close(code[0, :4], vectors[order[place]])
            assert torch.equal(code[0, 4:], before[0, 4:])
            expected = to_levels(scene.decoded(code, weights))[0, 0].numpy()
            assert np.abs(image.astype(int) - expected).max() <= 1


def test_the_temperature_of_a_level_changes_the_image_and_leaves_the_noise(
    browser: Any, opened: dict[str, Opened]
) -> None:
    for address in serving(opened["levels"]):
        for page in visit(browser, address):
            image = settled(page)
            page.click("#tabs button:has-text('Levels')")
            page.click("#levels-draw")
            image = settled(page, image)
            drawn = state(page)[0]
            page.fill("[aria-label='temperature of level 3']", "0")
            image = settled(page, image)
            changed = state(page)[0]
            assert torch.equal(changed[0, :-1][: drawn.shape[1] // 4], drawn[0, :-1][: drawn.shape[1] // 4])
            assert not torch.equal(changed, drawn)
            page.fill("[aria-label='temperature of level 3']", "1")
            settled(page, image)
            assert torch.equal(state(page)[0], drawn)


def test_a_training_is_followed(browser: Any, tmp_path: Path) -> None:
    given: dict[str, Any] = {"data": "digits", "train_limit": 200, "hidden": "16", "latent_dim": 3, "batch_size": 50}
    with interrupted_at(5), pytest.raises(RunError):
        vaekit.train(tmp_path / "run", "mlp", epochs=3, observer=Silent(), **given)
    for address in serving(Opened(tmp_path / "run")):
        for page in visit(browser, address):
            page.click("text=Training")
            before = settled(page, np.zeros((24, 64), np.uint8), "canvas.grid")
            assert "epoch 1 has ended" in page.inner_text("#epoch")
            vaekit.resume(tmp_path / "run", observer=Silent())
            page.wait_for_selector("text=Finished after epoch 3", timeout=20_000)
            settled(page, before, "canvas.grid")
            assert page.evaluate("explorer.scene.version") >= 2


@pytest.fixture(scope="module")
def site(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The static export behind a plain file server."""
    from vaekit.errors import InputError
    from vaekit.export.export import export_model

    folder = tmp_path_factory.mktemp("site")
    try:
        export_model(runs["classes"], folder, "explorer")
    except InputError as problem:
        pytest.skip(str(problem))
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *given: object) -> None:
        """Say nothing."""


@pytest.mark.slow
def test_a_folder_of_files_does_the_same_without_a_server(
    browser: Any, site: str, opened: dict[str, Opened], tmp_path: Path
) -> None:
    scene = opened["classes"].scene
    assert scene.images is not None
    pixels = scene.images.pixels[11, ..., 0].numpy()
    Image.fromarray(pixels).save(tmp_path / "own.png")
    for page in visit(browser, site):
        image = settled(page)
        for selector in ("[data-class='7']", "#randomize", "#reset"):
            page.click(selector)
            image = settled(page, image)
            code, weights = state(page)
            expected = to_levels(scene.decoded(code, weights))[0, 0].numpy()
            assert np.abs(image.astype(int) - expected).max() <= 1
        page.click("text=Own image")
        page.set_input_files("input[type=file]", tmp_path / "own.png")
        page.wait_for_selector("#own-heat")
        np.testing.assert_array_equal(levels(page, "#own-input"), pixels)
        label = torch.nn.functional.one_hot(torch.tensor([0]), 10).float()  # of a page that was reset
        expected_code = scene.encoded(scene.images.unit(torch.tensor([11])), label)
        np.testing.assert_allclose(state(page)[0].numpy(), expected_code.numpy(), atol=1e-4)
