"""What goes together, read from the tables: the field's models as settings, and what each objective can be trained with."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

from vaekit.data.images import DataInfo
from vaekit.errors import InputError
from vaekit.latents.table import POSTERIORS, PRIORS
from vaekit.models.table import MODELS, PROVIDES
from vaekit.models.vae import VAEConfig
from vaekit.networks.mlp import MLP
from vaekit.objectives.table import OBJECTIVES, trains_prior


@dataclass(frozen=True)
class Family:
    """A model of the field: the settings that make it of any preset, and where it comes from."""

    settings: dict[str, Any]
    source: str

    @property
    def command(self) -> str:
        """The settings as words of a command line.

        >>> Family({"objective": "rae", "regularizer": "gp"}, "").command
        '--objective rae --regularizer gp'
        """
        return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in self.settings.items())


_AE = {"posterior": "deterministic"}

FAMILIES: dict[str, Family] = {
    "AE": Family({**_AE, "objective": "autoencoder"}, "Hinton and Salakhutdinov 2006"),
    "RAE-L2": Family({**_AE, "objective": "rae", "regularizer": "l2"}, "Ghosh et al. 2020"),
    "RAE-GP": Family({**_AE, "objective": "rae", "regularizer": "gp"}, "Ghosh et al. 2020"),
    "RAE-SN": Family({**_AE, "objective": "rae", "regularizer": "sn"}, "Ghosh et al. 2020"),
    "VAE": Family({}, "Kingma and Welling 2014"),
    "conditional VAE": Family({"conditioning": "onehot"}, "Sohn et al. 2015"),
    "denoising VAE": Family({"corruption": "gaussian-noise"}, "Im et al. 2017"),
    "beta-VAE": Family({"beta": 4}, "Higgins et al. 2017"),
    "VAE with free bits": Family({"objective": "free-bits"}, "Kingma et al. 2016"),
    "annealed beta-VAE": Family({"objective": "capacity"}, "Burgess et al. 2018"),
    "beta-TCVAE": Family({"objective": "beta-tcvae"}, "Chen et al. 2018"),
    "FactorVAE": Family({"objective": "factor"}, "Kim and Mnih 2018"),
    "DIP-VAE-I": Family({"objective": "dip-vae", "dip": "i"}, "Kumar et al. 2018"),
    "DIP-VAE-II": Family({"objective": "dip-vae", "dip": "ii"}, "Kumar et al. 2018"),
    "InfoVAE": Family({"objective": "info-vae"}, "Zhao et al. 2019"),
    "MMD-VAE": Family({"objective": "info-vae", "info_alpha": 1}, "Zhao et al. 2019"),
    "WAE-MMD": Family({**_AE, "objective": "wae-mmd"}, "Tolstikhin et al. 2018"),
    "WAE-GAN, AAE": Family({**_AE, "objective": "aae"}, "Tolstikhin et al. 2018; Makhzani et al. 2015"),
    "VAE-GAN": Family({"objective": "vae-gan"}, "Larsen et al. 2016"),
    "IWAE": Family({"objective": "iwae"}, "Burda et al. 2016"),
    "IWAE-DReG": Family({"objective": "iwae", "gradient": "dreg"}, "Tucker et al. 2019"),
    "MIWAE": Family({"objective": "miwae"}, "Rainforth et al. 2018"),
    "CIWAE": Family({"objective": "ciwae"}, "Rainforth et al. 2018"),
    "PIWAE": Family({"objective": "piwae"}, "Rainforth et al. 2018"),
    "Renyi VAE": Family({"objective": "renyi"}, "Li and Turner 2016"),
    "MS-SSIM VAE": Family({"objective": "perceptual", "perceptual_distance": "ms-ssim"}, "Snell et al. 2017"),
    "perceptual VAE": Family({"objective": "perceptual", "perceptual_distance": "features"}, "Hou et al. 2017"),
    "VAE with planar flows": Family({"posterior": "planar"}, "Rezende and Mohamed 2015"),
    "VAE with radial flows": Family({"posterior": "radial"}, "Rezende and Mohamed 2015"),
    "VAE-IAF": Family({"posterior": "iaf"}, "Kingma et al. 2016"),
    "VAE-MAF": Family({"posterior": "maf"}, "Papamakarios et al. 2017"),
    "VAE with spline flows": Family({"posterior": "spline"}, "Durkan et al. 2019"),
    "hyperspherical VAE": Family({"posterior": "von-mises-fisher"}, "Davidson et al. 2018"),
    "Poincare VAE": Family({"posterior": "wrapped-normal"}, "Mathieu et al. 2019"),
    "Hamiltonian VAE": Family({"model": "hamiltonian"}, "Caterini et al. 2018"),
    "Riemannian Hamiltonian VAE": Family({"model": "riemannian"}, "Chadebec et al. 2020"),
    "hierarchical VAE": Family({"model": "hierarchical"}, "Sonderby et al. 2016; Child 2021"),
    "hierarchical VAE, balanced levels": Family(
        {"model": "hierarchical", "objective": "balanced"}, "Vahdat and Kautz 2020"
    ),
    "VQ-VAE": Family({"model": "vq"}, "van den Oord et al. 2017"),
    "RQ-VAE": Family({"model": "vq", "quantizer": "residual"}, "Lee et al. 2022"),
    "FSQ-VAE": Family({"model": "vq", "quantizer": "fsq"}, "Mentzer et al. 2024"),
    "LFQ-VAE": Family({"model": "vq", "quantizer": "lfq"}, "Yu et al. 2024"),
    "VampPrior VAE": Family({"prior": "vamp"}, "Tomczak and Welling 2018"),
    "VAE with a mixture prior": Family({"prior": "mixture"}, "Dilokthanakul et al. 2016"),
    "VAE with a flow prior": Family({"prior": "flow"}, "Chen et al. 2017"),
    "VAE with a prior for each label": Family({"conditioning": "onehot", "prior": "conditional"}, "Sohn et al. 2015"),
}


OWN = "its own"  # the prior of a model that leaves none to choose


class Latents(NamedTuple):
    """A way to infer latents: a posterior of the plain model, or a model of its own that has none to choose."""

    name: str
    config: Any

    @property
    def option(self) -> str:
        """How it is chosen on a command line."""
        return f"--posterior {self.name}" if self.name in POSTERIORS else f"--model {self.name}"


def latents() -> list[Latents]:
    """Every posterior, then every further model."""
    small = {"latent_dim": 2, "network": MLP(hidden=(4,))}
    found = [Latents(name, VAEConfig(posterior=POSTERIORS[name](), **small)) for name in POSTERIORS]  # type: ignore[arg-type]
    for name in MODELS:
        if name != "vae":
            known = {field.name for field in dataclasses.fields(MODELS[name])}
            found.append(Latents(name, MODELS[name](**{key: value for key, value in small.items() if key in known})))
    return found


def _priors(config: Any) -> list[str]:
    """The priors that can be chosen for a model; of one that brings its own, `OWN` alone."""
    return list(PRIORS) if hasattr(config, "prior") else [OWN]


@functools.cache
def _built() -> dict[tuple[str, str], tuple[frozenset[str], bool] | None]:
    """What each of `latents` provides under each prior, by both names, and whether that prior is learned.

    None where the two do not go together.
    """
    info = DataInfo("any", (1, 8, 8))
    found: dict[tuple[str, str], tuple[frozenset[str], bool] | None] = {}
    for name, config in latents():
        for prior in _priors(config):
            try:
                chosen = config if prior == OWN else dataclasses.replace(config, prior=PRIORS[prior]())
                model = chosen.build(info)
                found[name, prior] = model.provides, bool(model.prior_parameters())
            except InputError:
                found[name, prior] = None
    return found


def fitting_priors(name: str) -> list[str]:
    """The priors that go with one of `latents`."""
    return [prior for prior in (*PRIORS, OWN) if _built().get((name, prior)) is not None]


def fits(objective: str, name: str) -> tuple[list[str], list[str]]:
    """The priors under which an objective trains one of `latents`, and what stands against it under all others, in words."""
    entry, priors, lacking = OBJECTIVES[objective](), [], []
    for prior in (*PRIORS, OWN):
        if (built := _built().get((name, prior))) is None:
            continue
        provides, learned = built
        missing = [PROVIDES[need] for need in sorted(entry.needs - provides)]
        if not missing and learned and not trains_prior(entry, provides):
            missing = ["a prior that is not learned"]
        if not missing:
            priors.append(prior)
        lacking += [words for words in missing if words not in lacking]
    return priors, lacking
