"""The command that repeats a run, from its configuration."""

from __future__ import annotations

import shlex
from typing import Any

from vaekit.config import flags
from vaekit.errors import InputError
from vaekit.runs import Run
from vaekit.settings import PRESETS, Config, configure, preset


def nearest_preset(config: Config) -> tuple[str, dict[str, Any]]:
    """The preset that needs the fewest settings to become `config`, and those settings.

    >>> nearest_preset(configure("mlp", latent_dim=2))
    ('mlp', {'latent_dim': 2})
    """
    best: tuple[str, dict[str, Any]] | None = None
    for name in PRESETS:
        settings = differences(name, config)
        if settings is not None and (best is None or len(settings) < len(best[1])):
            best = name, settings
    if best is None:
        raise InputError("this configuration cannot be reached by settings from any preset; write it in Python")
    return best


def differences(name: str, config: Config) -> dict[str, Any] | None:
    """Flat settings that turn a preset into `config`; None where no settings do.

    >>> differences("conv", preset("conv"))
    {}
    """
    wanted = list(flags(config))
    own = {flag.path: flag.value for flag in flags(preset(name)) if flag.table}
    settings = {flag.name: flag.value for flag in wanted if flag.table and own.get(flag.path) != flag.value}
    try:
        reached = {flag.path: flag.value for flag in flags(configure(name, **settings))}
        settings |= {flag.name: flag.value for flag in wanted if reached.get(flag.path) != flag.value}
        return settings if configure(name, **settings) == config else None
    except InputError:  # a preset may not allow a choice without a further one
        return None


def repeat_command(run: Run) -> str:
    """The command line that trains the same model anew, into a folder beside."""
    name, settings = nearest_preset(run.config)
    words = ["vaekit", "train", "--preset", name]
    if "data" not in settings:
        words += ["--data", run.config.data.data]
    for setting, value in settings.items():
        words += ["--" + setting.replace("_", "-"), as_text(value)]
    words += ["--out", f"runs/{run.path.resolve().name}-again"]
    launcher = []
    if run.resolved.processes > 1:
        launcher = ["torchrun", "--standalone", f"--nproc-per-node={run.resolved.processes}", "--no-python"]
    return shlex.join(launcher + words)


def as_text(value: Any) -> str:
    """A setting's value as the command line writes it.

    >>> [as_text(value) for value in (None, True, (32, 64), 0.003, 30.0)]
    ['none', 'true', '32,64', '0.003', '30']
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return ",".join(map(as_text, value)) if isinstance(value, tuple) else str(value)
