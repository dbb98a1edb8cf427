"""One micro-step of latent consistency distillation, full or LoRA, with the reference's formulas in f32."""

import copy
from dataclasses import dataclass, field

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig

from .loss import huber, l2
from .schedule import DdimSolver, Schedule, boundary_scalings, guidance_embedding, per_sample


@dataclass
class Objective:
    """What shapes a step, under the names of the command line."""

    num_ddim_timesteps: int = 50
    timestep_scaling_factor: float = 10.0
    loss_type: str = "l2"
    huber_c: float = 0.001

    def loss(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of this type."""
        return l2(prediction, target) if self.loss_type == "l2" else huber(prediction, target, self.huber_c)


@dataclass
class Inputs:
    """The tensors of a micro-batch, under the names of `fewstep debug step`."""

    latents: torch.Tensor
    noise: torch.Tensor
    index: torch.Tensor
    w: torch.Tensor
    prompt_embeds: torch.Tensor
    uncond_prompt_embeds: torch.Tensor
    text_embeds: torch.Tensor | None = None
    time_ids: torch.Tensor | None = None

    def added(self, conditional: bool) -> dict[str, torch.Tensor]:
        """Return SDXL's added conditions; without a prompt the pooled embedding is zero."""
        if self.text_embeds is None:
            return {}
        pooled = self.text_embeds if conditional else torch.zeros_like(self.text_embeds)
        return {"text_embeds": pooled, "time_ids": self.time_ids}


def with_guidance(config: dict, dim: int) -> UNet2DConditionModel:
    """Build a UNet of this configuration with a guidance embedding of this width.

    The note of which values were defaults must go: diffusers would put the default back in their place.
    """
    public = {key: value for key, value in config.items() if not key.startswith("_")}
    return UNet2DConditionModel.from_config({**public, "time_cond_proj_dim": dim})


def make_student(
    teacher: UNet2DConditionModel, time_cond_proj_dim: int, cond_proj: torch.Tensor | None = None
) -> UNet2DConditionModel:
    """Copy the teacher into a network with a guidance embedding, whose projection is zero unless given.

    A teacher that has such an embedding hands its width and its projection on.
    """
    dim = teacher.config.time_cond_proj_dim or time_cond_proj_dim
    student = with_guidance(teacher.config, dim)
    student.load_state_dict(teacher.state_dict(), strict=False)
    projection = student.time_embedding.cond_proj.weight
    with torch.no_grad():
        if cond_proj is not None:
            projection.copy_(cond_proj)
        elif not teacher.config.time_cond_proj_dim:
            projection.zero_()
    return student


@dataclass
class Adapters:
    """What the adapters of a LoRA student are like, under the names of the command line."""

    lora_rank: int = 64
    lora_alpha: float = 64.0
    lora_target_modules: list[str] = field(default_factory=lambda: list(TARGETS))


# The modules that the reference adapts unless it is told.
TARGETS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "proj_in",
    "proj_out",
    "ff.net.0.proj",
    "ff.net.2",
    "conv1",
    "conv2",
    "conv_shortcut",
    "downsamplers.0.conv",
    "upsamplers.0.conv",
    "time_emb_proj",
)


def make_lora_student(teacher: UNet2DConditionModel, adapters: Adapters) -> UNet2DConditionModel:
    """Copy the teacher and put peft's adapters on it; only they want gradients."""
    student = copy.deepcopy(teacher)
    student.requires_grad_(False)
    student.add_adapter(
        LoraConfig(
            r=adapters.lora_rank,
            lora_alpha=adapters.lora_alpha,
            target_modules=adapters.lora_target_modules,
        )
    )
    return student


def is_adapted(student: UNet2DConditionModel) -> bool:
    """Whether a student is adapters on a frozen network."""
    return getattr(student, "peft_config", None) is not None


def trained(student: UNet2DConditionModel) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that are trained, under the names of `fewstep debug step`."""
    return {
        name.replace(".default.", "."): parameter
        for name, parameter in student.named_parameters()
        if parameter.requires_grad
    }


class Distiller:
    """Student, teacher and target of one run."""

    def __init__(
        self, config: dict, teacher: UNet2DConditionModel, student: UNet2DConditionModel, objective: Objective
    ) -> None:
        """Take the scheduler's configuration and the networks; the target starts as the student.

        Where the student is a whole network the target is a copy of it, to be averaged. Adapters have no such
        copy in the reference: their target is the student itself.
        """
        self.schedule = Schedule.from_config(config)
        self.solver = DdimSolver.of(self.schedule, objective.num_ddim_timesteps)
        self.objective = objective
        self.teacher = teacher.requires_grad_(False).eval()
        self.student = student.train()
        self.target = student if is_adapted(student) else copy.deepcopy(student).requires_grad_(False)

    def consistency(
        self, unet: UNet2DConditionModel, z: torch.Tensor, t: torch.Tensor, cond: torch.Tensor, inputs: Inputs
    ) -> torch.Tensor:
        """Return f(z, t) = c_skip(t) z + c_out(t) x0(z, t)."""
        output = unet(
            z, t, inputs.prompt_embeds, timestep_cond=cond, added_cond_kwargs=inputs.added(True)
        ).sample
        c_skip, c_out = boundary_scalings(t, self.objective.timestep_scaling_factor)
        return c_skip * z + c_out * self.schedule.x0(output, t, z)

    @torch.no_grad()
    def teacher_step(self, z: torch.Tensor, t: torch.Tensor, inputs: Inputs) -> torch.Tensor:
        """Return x_prev: the solver's step along the teacher's guided direction."""
        uncond = inputs.uncond_prompt_embeds.expand_as(inputs.prompt_embeds)
        conditional = self.teacher(z, t, inputs.prompt_embeds, added_cond_kwargs=inputs.added(True)).sample
        unconditional = self.teacher(z, t, uncond, added_cond_kwargs=inputs.added(False)).sample
        w = per_sample(inputs.w)
        guided = []
        for reading in (self.schedule.x0, self.schedule.eps):
            value, base = reading(conditional, t, z), reading(unconditional, t, z)
            guided.append(value + w * (value - base))
        return self.solver.step(*guided, inputs.index)

    def step(self, inputs: Inputs, cond: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Return loss (with its graph), model_pred, target and x_prev; `cond` replaces the embedding of w."""
        start, end = self.solver.ends(inputs.index)
        z = self.schedule.add_noise(inputs.latents, inputs.noise, start)
        if cond is None and self.student.config.time_cond_proj_dim:
            cond = guidance_embedding(inputs.w, self.student.config.time_cond_proj_dim)
        model_pred = self.consistency(self.student, z, start, cond, inputs)
        x_prev = self.teacher_step(z, start, inputs)
        with torch.no_grad():
            target = self.consistency(self.target, x_prev, end, cond, inputs)
        loss = self.objective.loss(model_pred, target)
        return {"loss": loss, "model_pred": model_pred, "target": target, "x_prev": x_prev}
