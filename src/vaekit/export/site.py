"""The explorer as a folder of files: any web server shows it, and the model runs in the visitor's browser."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass

from torch import Tensor, nn

from vaekit.data.download import data_folder, fetch
from vaekit.errors import InputError
from vaekit.explorer.opened import Opened
from vaekit.explorer.page import page_files
from vaekit.explorer.scene import Scene
from vaekit.export.onnx import difference, graph
from vaekit.export.parts import Part
from vaekit.export.table import FORMATS, Exported, need_packages
from vaekit.export.weights import without_paths
from vaekit.records import to_json
from vaekit.trained import Trained

POINTS = 2000
_RUNTIME = "onnxruntime-web"
_ARCHIVE = "onnxruntime-web-1.30.0.tgz"
_MD5 = "7677e2cac4b2d0a14154aef901cdab13"
# as its registry states it; what a browser will run is held to more than an md5
_SHA512 = (
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
_MIRRORS = ("https://registry.npmjs.org/onnxruntime-web/-/", "https://registry.npmmirror.com/onnxruntime-web/-/")
_TAKEN = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_NOTICE = b"onnxruntime-web 1.30.0, Copyright (c) Microsoft Corporation, MIT License: https://github.com/microsoft/onnxruntime\n"


class _Asked(nn.Module):
    """What the page asks a model for, as a graph can hold it."""

    def __init__(self, trained: Trained):
        super().__init__()
        self.model, self.scene = trained.model, Scene(trained, None, "prior")


class _Decode(_Asked):
    """Places in the chart (n, latent)[, weights (n, k)] to levels (n, height, width, channels), float32 0 to 255."""

    def forward(self, chart: Tensor, weights: Tensor | None = None) -> tuple[Tensor]:
        return (self.scene.decoded(chart, weights).permute(0, 2, 3, 1) * 255.0,)


class _Encode(_Asked):
    """Images (n, channels, height, width)[, weights (n, k)] to places in the chart (n, latent)."""

    def forward(self, image: Tensor, weights: Tensor | None = None) -> tuple[Tensor]:
        return (self.scene.encoded(image, weights),)


@FORMATS.register("explorer")
@dataclass(frozen=True)
class Site:
    """A folder that any web server shows: the explorer with its own models, run in the browser by onnxruntime-web."""

    def export(self, trained: Trained) -> Exported:
        need_packages(("onnx", "onnxscript", "onnxruntime"), "export", "--format explorer")
        runtime = _runtime()
        scene = public(Opened(trained.path, points=POINTS).scene)
        weights = ("weights",) if trained.model.conditional else ()
        models = {
            "decoder": Part("decoder", _Decode(trained).eval(), ("chart", *weights), ("levels",)),
            "encoder": Part("encoder", _Encode(trained).eval(), ("image", *weights), ("chart",)),
        }
        files, about = {}, {}
        for name, part in models.items():
            content = graph(trained, part)
            files[f"data/{name}.onnx"] = content
            about[f"data/{name}.onnx"] = {"largest_difference": difference(trained, part, content)}
        description = {**scene.description, "guided": False}  # the decoder's graph has the images, not what guides them
        files["data/scene.json"] = to_json(description, indent=None).encode()
        files |= {f"data/{name}": make()[0] for name, make in scene.blobs.items()}
        page = page_files()
        page["index.html"] = page["index.html"].replace(b"<html ", b'<html data-source="files" ', 1)
        files |= page | {f"runtime/{name}": content for name, content in runtime.items()}
        return Exported(files, {"files": about, "points": description["count"]})


def public(scene: Scene) -> Scene:
    """The same without folders of the machine that the model was trained on: the description is read by strangers."""
    return Scene(without_paths(scene.trained), scene.images, scene.split, {**scene.about, "note": ""})


def _runtime() -> dict[str, bytes]:
    """The files of onnxruntime-web that a page needs, verified."""
    path = fetch(_RUNTIME, _ARCHIVE, _MD5, _MIRRORS, data_folder(None))
    content = path.read_bytes()
    if hashlib.sha512(content).hexdigest() != _SHA512:
        raise InputError(f"{path}: is not {_ARCHIVE} as published; remove it and try again")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        found = {name: archive.extractfile(f"package/dist/{name}") for name in _TAKEN}
        return {name: file.read() for name, file in found.items() if file is not None} | {"NOTICE.txt": _NOTICE}
