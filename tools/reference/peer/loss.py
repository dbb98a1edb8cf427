"""The two losses of the reference, means over every element."""

import torch


def l2(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference."""
    return (prediction.float() - target.float()).square().mean()


def huber(prediction: torch.Tensor, target: torch.Tensor, c: float) -> torch.Tensor:
    """Return the pseudo-Huber loss, mean of sqrt(d^2 + c^2) - c."""
    difference = prediction.float() - target.float()
    return ((difference.square() + c**2).sqrt() - c).mean()
