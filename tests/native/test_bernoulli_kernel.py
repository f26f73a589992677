"""The kernel of Bernoulli pixels agrees with exact sums, for any logit there can be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vaekit.native import library
from vaekit.native.eager import twice_differentiable
from vaekit.native.likelihood import bernoulli_log_prob
from vaekit.probability.likelihoods import BernoulliImage

pytestmark = pytest.mark.usefixtures("in_use")


def exact(logits: Tensor, target: Tensor) -> Tensor:
    """Float64, by a formula that loses nothing."""
    logits, target = logits.double(), target.double()
    return (target * logits - torch.nn.functional.softplus(logits)).flatten(-3).sum(-1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [0.1, 3.0, 30.0])
@pytest.mark.parametrize(
    "shape", [(7, 5, 1, 28, 28), (3, 1, 61, 67), (2, 3, 4, 3, 43, 47), (700, 1, 3, 5), (2, 3, 256, 256)], ids=str
)
def test_log_prob_and_gradient(shape: tuple[int, ...], size: float, threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    logits, target = (size * torch.randn(shape)).requires_grad_(), torch.rand(shape[-4:])
    target = target.round() if size == 3.0 else target
    found = bernoulli_log_prob(logits, target)
    assert found is not None
    assert found.shape == shape[:-3]
    wanted = exact(logits, target)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=2e-5)
    weights = torch.randn(found.shape)
    (gradient,) = torch.autograd.grad(found, logits, weights)
    (true,) = torch.autograd.grad(wanted, logits, weights.double())
    torch.testing.assert_close(gradient, true, rtol=1e-5, atol=2e-7)


def test_every_size_of_logit() -> None:
    """A pixel alone, so that no sum hides its error."""
    logits = torch.cat([torch.linspace(-120, 120, 2**13), torch.tensor([0.0, -0.0, 1e-30, 3e38, -3e38])])
    logits = logits.view(-1, 1, 1, 1).clone().requires_grad_()
    for value in (0.0, 0.3, 1.0):
        target = torch.full_like(logits, value).detach()
        found = bernoulli_log_prob(logits, target)
        assert found is not None
        torch.testing.assert_close(found.double(), exact(logits, target), rtol=3e-7, atol=2e-7)
        (gradient,) = torch.autograd.grad(found.sum(), logits)
        torch.testing.assert_close(gradient.double(), value - logits.double().sigmoid(), rtol=0, atol=2e-7)


def test_what_is_not_finite_shows() -> None:
    for bad in (float("nan"), float("inf")):
        logits = torch.zeros(16, 1, 32, 32)
        logits[3, 0, 4, 5] = bad
        found = bernoulli_log_prob(logits.requires_grad_(), torch.zeros(16, 1, 32, 32))
        assert found is not None
        assert (~found.isfinite()).nonzero().tolist() == [[3]]


def test_the_likelihood_uses_it_where_it_serves() -> None:
    logits, target = torch.randn(4, 6, 1, 28, 28, requires_grad=True), torch.rand(6, 1, 28, 28)
    image = BernoulliImage(logits)
    name = "_LogProbBackward"
    assert image.log_prob(target).grad_fn.name() == name
    mask = torch.ones(6, 1, 28, 28)
    with twice_differentiable():
        others = [image.log_prob(target)]
    others += [image.log_prob(target, mask), BernoulliImage(logits.detach()).log_prob(target)]
    others += [
        BernoulliImage(logits.transpose(0, 1)).log_prob(target[:4]),
        BernoulliImage(logits.double()).log_prob(target),
    ]
    with library.using(False):
        others.append(image.log_prob(target))
    for other in others:
        assert other.grad_fn is None or other.grad_fn.name() != name
    torch.testing.assert_close(others[0], image.log_prob(target))


def test_it_can_be_differentiated_twice() -> None:
    logits, target = torch.randn(12, 1, 28, 28, requires_grad=True), torch.rand(12, 1, 28, 28)
    found = bernoulli_log_prob(logits, target)
    (gradient,) = torch.autograd.grad(found.sum(), logits, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), logits)
    mean = logits.sigmoid()
    torch.testing.assert_close(second, -mean * (1 - mean))
    rows = torch.eye(12)
    (jacobian,) = torch.autograd.grad(bernoulli_log_prob(logits, target), logits, rows, is_grads_batched=True)
    torch.testing.assert_close(jacobian, rows[..., None, None, None] * (target - mean))


def test_a_target_with_samples_is_left_to_others() -> None:
    logits, target = torch.randn(3, 5, 1, 28, 28, requires_grad=True), torch.rand(3, 5, 1, 28, 28)
    assert bernoulli_log_prob(logits, target) is None
    assert BernoulliImage(logits).log_prob(target).shape == (3, 5)


def test_other_defaults_of_torch_do_not_reach_it() -> None:
    logits, target = torch.randn(12, 1, 28, 28, requires_grad=True), torch.rand(12, 1, 28, 28)
    torch.set_default_dtype(torch.float64)
    try:
        found = bernoulli_log_prob(logits, target)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact(logits, target), rtol=1e-6, atol=2e-5)


def test_a_learned_target_has_its_gradient() -> None:
    """As of two players, one of which makes the other's target."""
    logits, target = torch.randn(12, 1, 28, 28, requires_grad=True), torch.rand(12, 1, 28, 28, requires_grad=True)
    BernoulliImage(logits).log_prob(target).sum().backward()
    torch.testing.assert_close(target.grad, logits.detach())
