"""What the latents of a model show: which are in use, and whether samples of the prior fall where they lie.

The thresholds are stated with what healthy and sick runs were seen to have.
"""

from __future__ import annotations

from collections.abc import Iterator

from vaekit.doctor.evidence import SPARE_RATE, Evidence
from vaekit.doctor.findings import Finding, several, span
from vaekit.doctor.history import LEAST_RATE, Records, collapse, setting

_LEAST_CODE_VARIANCE = 1e-6
_KL_PER_LATENT, _KL, _FAR = 0.5, 1.0, 3.5
_ENOUGH = 2000  # posteriors to look for the nearest among


def unused_latents(evidence: Evidence, records: Records) -> Iterator[Finding]:
    """Posterior collapse (Bowman et al. 2016), told from latents that are merely spare (Lucas et al. 2019).

    A rate below 0.5 nats in all is collapse. Single latents below 0.02 nats, beside others that carry the image, are what
    the ELBO asks for where more latents would not pay for their rate. Of several levels of latents it is levels that are
    looked at: in a map a little rate at each place adds up to much.
    """
    codes, config = evidence.codes, evidence.config
    if codes.rate is not None and codes.rate < LEAST_RATE:
        yield collapse(codes.rate, config)
        return
    if codes.rate is None and codes.variances.max().item() < _LEAST_CODE_VARIANCE:
        yield Finding(
            "posterior-collapse",
            "illness",
            "Every image has the same code.",
            f"The largest variance of a latent over {codes.count} {evidence.split} images is "
            f"{codes.variances.max().item():.2g}.",
            f"Lower the learning rate, --learning-rate {config.training.learning_rate / 4:.2g}, or train longer: --epochs.",
            "all latents",
        )
        return
    if codes.by_level:
        yield from idle_levels(evidence)
        return
    spare = codes.spare.nonzero()[:, 0].tolist()
    if not spare:
        return
    total, used = len(codes.spare), len(codes.spare) - len(spare)
    each = " each" if len(spare) > 1 else ""
    by = f"less than {SPARE_RATE} nats of rate{each}" if codes.rates is not None else f"a variance below 0.01{each}"
    rate = "" if codes.rate is None else f", and the other {used} carry {codes.rate:.1f} nats"
    yield Finding(
        "spare-latents",
        "remark",
        f"{used} of {several(total, 'latent')} are in use.",
        f"On {codes.count} {evidence.split} images {several(len(spare), 'latent')} had {by}{rate}.",
        f"None is needed, spare latents do no harm; --latent-dim {max(used, 1)} would do, and a lower --beta uses more.",
        f"spare latents {span([number + 1 for number in spare])}",  # numbered as figures and `vaekit traverse` do
        {"spare": spare, "rates_nats": None if codes.rates is None else codes.rates.tolist()},
    )


def idle_levels(evidence: Evidence) -> Iterator[Finding]:
    """Levels of less than 0.5 nats, of a hierarchy of which others carry the image: its depth is paid for and not used."""
    rates = evidence.codes.by_level
    idle = [level for level, rate in enumerate(rates, 1) if rate < LEAST_RATE]
    if not idle:
        return
    used = len(rates) - len(idle)
    yield Finding(
        "idle-levels",
        "remark",
        f"{used} of {several(len(rates), 'level')} of latents {'is' if used == 1 else 'are'} in use.",
        f"On {evidence.codes.count} {evidence.split} images the levels had, from the one that is drawn first, "
        f"{' + '.join(f'{rate:.1f}' for rate in rates)} nats of rate.",
        "Let all levels come into use before the rate has its full price, --objective balanced, and train longer, --epochs. "
        "If one does not, fewer --levels say the same in less time.",
        f"level {span(idle)}" if len(idle) == 1 else f"levels {span(idle)}",
        {"idle": idle, "rates_nats": rates},
    )


def prior_samples(evidence: Evidence, records: Records) -> Iterator[Finding]:
    """Samples of the prior must fail: they fall where the decoder was never trained.

    The rate is the mutual information of image and code plus KL(aggregate posterior || prior) (Hoffman and Johnson 2016),
    and the first is at most log n for n images. But rate - log n says little: it is the KL of n separate spots, and a
    healthy model of MNIST with 20 latents has 25 nats, far above log 60,000 = 11. So two things are measured instead.

    - How far the aggregate posterior as a whole is from the prior: the KL of its Gaussian fit, a lower bound of its own
      KL (see `evidence.gaussian_bound`). Healthy runs of MNIST had 0.0 to 0.02 nats a latent and young ones up to 0.23; with
      beta 1/128 it is 0.7 to 2.1.
    - How far a sample of the prior is from the nearest posterior of 2,000 training images, in that posterior's standard
      deviations: the decoder saw codes within about one. Healthy runs had 0.3 to 2.7, with beta 1/128 4.4 to 45.

    It is an illness when the KL is above 1 nat and prior samples are farther than 3.5 standard deviations. The distance
    alone is not enough, for a smooth decoder bridges gaps: images that it never saw lie as far. Nearer than that, a KL above
    1 nat and 0.5 nats a latent is a warning. With fewer than 2,000 training images five times as far is far.
    """
    prior, rate = evidence.prior, evidence.codes.rate
    if prior is None or prior.active == 0 or rate is None or prior.kl < _KL:
        return
    reach = _FAR if prior.count >= _ENOUGH else 5.0 * _FAR  # among few posteriors the nearest is far for any model
    far = prior.nearest is not None and prior.nearest > reach
    if prior.kl < _KL_PER_LATENT * prior.active and not far:
        return
    beta, sigma = setting(evidence.config, "beta"), setting(evidence.config, "sigma")
    if beta is not None and beta < 1:
        remedy = f"Give the rate its full price: --beta 1 in place of {beta:.3g}"
    elif setting(evidence.config, "learn_sigma") is False and sigma is not None:
        remedy = f"Let the likelihood be less sure: --learn-sigma, or --sigma {2 * sigma:.2g} in place of {sigma:g}"
    elif beta is not None:
        remedy = f"Raise the price of the rate (--beta {2 * max(beta, 1):g}), train longer, or take fewer latents"
    else:
        remedy = "Choose an objective that prices the rate (--objective elbo), or take fewer latents"
    low, high = prior.scales
    distance = ""
    if prior.nearest is not None:
        distance = (
            f" A sample of the prior lies {prior.nearest:.1f} standard deviations of a posterior away from the nearest of "
            f"the posteriors of {prior.count:,} training images, where the decoder was trained within about one."
        )
    yield Finding(
        "prior-mismatch",
        "illness" if far else "warning",
        "The rate is so high that samples of the prior must fail: they fall where the decoder was never trained."
        if far
        else "Codes and prior do not match, so that samples of the prior are poorer than reconstructions.",
        f"At a rate of {rate:.1f} nats the codes leave the prior: KL(aggregate posterior || prior) is at least "
        f"{prior.kl:.1f} nats, {prior.kl / prior.active:.2f} for each of {several(prior.active, 'active latent')}, whose "
        f"standard deviations run from {low:.2f} to {high:.2f} where the prior has 1.{distance}",
        f"{remedy}. Reconstructions and codes are sound as they are.",
        None,
        {"rate_nats": rate, "aggregate_kl_nats": prior.kl, "nearest": prior.nearest, "active": prior.active},
    )
