"""Students of random models: whole UNets with a guidance embedding, or adapters."""

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from diffusers import UNet2DConditionModel

from fixtures.common import normal
from peer.step import TARGETS, Adapters, make_lora_student, make_student, trained

from .model import Model

COND_PROJ = "time_embedding.cond_proj.weight"
# Modules that get an adapter only when they are named.
MORE_TARGETS = (
    "conv_in",
    "conv_out",
    "time_embedding.linear_1",
    "time_embedding.linear_2",
    "time_embedding.cond_proj",
    "add_embedding.linear_1",
    "add_embedding.linear_2",
    "attn1.to_v",
    "attn2.to_k",
)


def draw_adapters(rng: random.Random, model: Model) -> Adapters:
    """Draw rank, alpha and targets: the usual ones, or some of all that the model has."""
    rank = rng.choice((1, 2, 3, 5))
    adapters = Adapters(rank, rng.choice((float(rank), 1.0, 2.0 * rank, 7.5)))
    if rng.random() < 0.5:
        modules = [name for name, _ in model.unet.named_modules()]
        known = [
            target
            for target in TARGETS + MORE_TARGETS
            if any(name == target or name.endswith(f".{target}") for name in modules)
        ]
        adapters.lora_target_modules = rng.sample(known, rng.randint(1, min(6, len(known))))
    return adapters


@dataclass
class Student:
    """What is trained: a whole UNet with a guidance embedding, or adapters, and its first parameters."""

    dim: int
    adapters: Adapters | None
    init: dict[str, torch.Tensor]

    def of(self, teacher: UNet2DConditionModel) -> UNet2DConditionModel:
        """Return the student of a teacher."""
        if self.adapters is None:
            return make_student(teacher, self.dim, self.init.get(COND_PROJ))
        student = make_lora_student(teacher, self.adapters)
        with torch.no_grad():
            for name, value in trained(student).items():
                value.copy_(self.init[name])
        return student

    def flags(self) -> dict[str, object]:
        """Return what the command line says of it."""
        if self.adapters is None:
            return {"unet_time_cond_proj_dim": self.dim}
        targets = ",".join(self.adapters.lora_target_modules)
        return {**asdict(self.adapters), "lora_target_modules": targets}


def draw_whole(rng: random.Random, model: Model, label: str) -> Student:
    """Draw a whole student; its new projection is zero or not."""
    dim = rng.choice((256, 64, 33))
    dim = model.unet.config.time_cond_proj_dim or dim
    shape = (model.unet.config.block_out_channels[0], dim)
    init = {COND_PROJ: 0.2 * normal(f"{label}/cond_proj", *shape)} if rng.random() < 0.6 else {}
    return Student(dim, None, init)


def draw_lora(rng: random.Random, model: Model, label: str) -> Student:
    """Draw adapters with both matrices away from zero."""
    adapters = draw_adapters(rng, model)
    parameters = trained(make_lora_student(model.unet, adapters))
    init = {name: 0.1 * normal(f"{label}/{name}", *value.shape) for name, value in parameters.items()}
    return Student(0, adapters, init)


DrawStudent = Callable[[random.Random, Model, str], Student]
