"""From an estimator's parameters to the configuration of a run, and the scaling of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from vaekit.config import flags
from vaekit.corruptions.table import Clean
from vaekit.data.binarization import Grey
from vaekit.data.sizing import Sizing
from vaekit.errors import InputError
from vaekit.estimators.layout import Layout, Scaling, is_binary
from vaekit.networks.conv import Conv
from vaekit.networks.residual import Residual
from vaekit.settings import Config, configure

_OF_FILES = ("data", "target", "group_by", "tensorboard", *(flag.name for flag in flags(Sizing())))


def configuration(
    layout: Layout,
    array: np.ndarray,
    preset: str | None,
    given: Mapping[str, Any],
    settings: Any,
    parameters: Sequence[str],
    random_state: int | np.random.RandomState | None,
) -> Config:
    """The configuration of a fit: preset < the parameters given < the seed, the threads of this process, other settings.

    Args:
        layout: of the array.
        array: samples (n, ...).
        preset: None: ``conv`` for images, ``mlp`` for a table.
        given: flat settings that parameters name. Without a likelihood, a table's is chosen by its values.
        settings: all other flat settings, a dictionary or None.
        parameters: names that `settings` may not hold.
        random_state: the seed; None or a generator draws one.

    Raises:
        InputError: for settings that do not fit each other or the array.
    """
    given = dict(given)
    if layout.table:
        given.setdefault("likelihood", "bernoulli" if is_binary(array) else "optimal-gaussian")
    name = preset or ("mlp" if layout.table else "conv")
    others = {} if settings is None else settings
    if not isinstance(others, Mapping):
        raise InputError(
            f"settings: {settings!r} is not a dictionary of flat settings, such as {{'hidden': (200, 100)}}"
        )
    for other in others:
        if other in parameters or other == "seed":
            parameter = "random_state" if other == "seed" else other
            raise InputError(f"settings: {other!r} has a parameter of its own; give {parameter}=...")
        if other in _OF_FILES:
            raise InputError(f"settings: {other!r} is for data and runs in files; leave it out")
    seed = random_state
    if seed is None or isinstance(seed, np.random.RandomState):
        seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
    config = configure(name, data="array", seed=seed, **given, **{"threads": torch.get_num_threads(), **others})
    _check_fit(config, layout, name)
    return config


def scaling(layout: Layout, array: np.ndarray, config: Config) -> Scaling:
    """How the columns of an array are scaled: those of a table under a likelihood of any real numbers.

    They are standardized, but for a model that reads corrupted samples brought to the range from 0 to 1: corruptions are
    said in parts of the range from black to white.
    """
    if not layout.table or not getattr(config.model.likelihood, "unbounded", False):
        return Scaling()
    return Scaling.standard(array) if isinstance(config.data.corruption, Clean) else Scaling.range(array)


def _check_fit(config: Config, layout: Layout, preset: str) -> None:
    """Refuse settings that do not go with the samples.

    Raises:
        InputError: in one sentence.
    """
    height, width, channels = layout.size
    shape = (channels, height, width)
    if config.data.corruption.shape(shape) != shape:
        raise InputError(
            "corruption: it changes the size of images; choose another, or train such a model by vaekit.train"
        )
    if not layout.table:
        return
    if isinstance(getattr(config.model, "network", None), (Conv, Residual)):
        raise InputError(
            f"network: that of preset {preset!r} reads images, and X is a table of {width} columns; "
            "choose network='mlp', or say image_shape=(height, width)"
        )
    if not isinstance(config.data.binarization, Grey):
        raise InputError("settings: 'binarization' is of grey pixels, and X is a table; leave it out")
