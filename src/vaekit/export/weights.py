"""The model file itself, without the paths of the machine that it was trained on."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from vaekit.config import encode, flags, replace
from vaekit.export.table import FORMATS, Exported
from vaekit.storage import pack_model
from vaekit.trained import Trained

MODEL = "model.safetensors"


@FORMATS.register("safetensors")
@dataclass(frozen=True)
class Weights:
    """model.safetensors, the weights with their configuration, for vaekit elsewhere; paths are cut to their last names."""

    def export(self, trained: Trained) -> Exported:
        trained = without_paths(trained)
        content = pack_model(trained.model, trained.config, trained.info, trained.model.state_dict())
        return Exported({MODEL: content}, {"files": {MODEL: {}}, "config": encode(trained.config)})


def without_paths(trained: Trained) -> Trained:
    """The same model, its configuration and data description without folders of the machine that it was trained on.

    >>> _last("/home/somebody/photos"), _last("mnist"), _last(None), _last("rotate:3/4")
    ('photos', 'mnist', None, 'rotate:3/4')
    """
    config = trained.config
    for flag in flags(config):
        if flag.leaf is not None and _last(flag.value) != flag.value:
            config = replace(config, flag.path, _last(flag.value))
    return dataclasses.replace(
        trained, config=config, info=dataclasses.replace(trained.info, name=_last(trained.info.name))
    )


def _last(value: Any) -> Any:
    return PurePath(value).name if isinstance(value, str) and os.path.isabs(value) else value
