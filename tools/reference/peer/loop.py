"""The reference's training loop around a step: AdamW, clipping and the target's moving average."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from .step import Distiller, Inputs


@dataclass
class Settings:
    """The optimiser's settings, under the names of the command line; the learning rate is constant."""

    learning_rate: float = 1e-4
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_weight_decay: float = 1e-2
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    ema_decay: float = 0.95


@torch.no_grad()
def move_target(distiller: Distiller, decay: float) -> None:
    """Move the target's weights towards the student's."""
    pairs = zip(distiller.target.parameters(), distiller.student.parameters(), strict=True)
    for average, value in pairs:
        average.mul_(decay).add_(value, alpha=1 - decay)


def train(
    distiller: Distiller,
    batches: Iterable[Inputs],
    settings: Settings,
    precision: Callable[[], AbstractContextManager] = nullcontext,
) -> list[dict[str, float]]:
    """Take one optimiser step for each batch and return every loss and gradient norm.

    `precision` makes the context of one forward pass. Autocast keeps its casts of the weights until it is
    left, so a context around the whole loop would train with the weights of the first step.
    """
    parameters = [parameter for parameter in distiller.student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        weight_decay=settings.adam_weight_decay,
        eps=settings.adam_epsilon,
    )
    history = []
    for inputs in batches:
        with precision():
            loss = distiller.step(inputs)["loss"]
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if distiller.target is not distiller.student:
            move_target(distiller, settings.ema_decay)
        history.append({"loss": loss.item(), "grad_norm": norm.item()})
    return history
