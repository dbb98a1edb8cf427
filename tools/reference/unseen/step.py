"""`debug step` against the reference's formulas: loss, and the gradient of every parameter."""

import random
from dataclasses import asdict

import torch

from fixtures.common import normal, uniform
from peer import step as peer_step
from peer.step import Distiller, Inputs, Objective, make_student

from .command import CommandError, Fewstep
from .compare import Table, distance
from .model import Model

LOSS_TOLERANCE, TENSOR_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4, 1e-4
# What counts is the distance to the reference in f32 or to its formulas in double precision, whichever is
# less: both round, and where a sample is noisy or the Huber loss bends, their roundings add up. The tolerance
# is never below the distance between these two, times this.
NOISE_FACTOR = 4.0
# Some gradients are nothing but rounding: where attention has one place to look at, its queries and keys have
# no effect. Values below this part of the largest gradient of all parameters count as that part.
GRADIENT_FLOOR = 1e-5


def draw_objective(rng: random.Random) -> Objective:
    """Draw what the command line can say about a step."""
    return Objective(
        num_ddim_timesteps=rng.choice((50, 50, 20, 100)),
        timestep_scaling_factor=rng.choice((10.0, 10.0, 4.0)),
        loss_type=rng.choice(("l2", "huber")),
        huber_c=rng.choice((0.001, 0.01)),
    )


def draw_inputs(rng: random.Random, model: Model, label: str, count: int) -> Inputs:
    """Draw a batch that holds index 0 and the last index where it can."""
    batch = rng.randint(1, 3)
    height, width = rng.choice(((8, 8), (16, 8), (9, 11)))
    latents = (batch, model.unet.config.in_channels, height, width)
    index = [0, count - 1, rng.randrange(count)][:batch]
    rng.shuffle(index)
    prompt = (77, model.unet.config.cross_attention_dim)
    inputs = Inputs(
        latents=normal(f"{label}/latents", *latents),
        noise=normal(f"{label}/noise", *latents),
        index=torch.tensor(index),
        w=uniform(f"{label}/w", 3, 15, batch),
        prompt_embeds=normal(f"{label}/prompt", batch, *prompt),
        uncond_prompt_embeds=normal(f"{label}/uncond", rng.choice((1, batch)), *prompt),
    )
    if model.is_xl:
        inputs.uncond_prompt_embeds = torch.zeros_like(inputs.prompt_embeds)
        inputs.text_embeds = normal(f"{label}/pooled", batch, model.pooled_width)
        inputs.time_ids = torch.tensor([[512.0, 640.0, 0.0, 12.0, 512.0, 512.0]]).repeat(batch, 1)
    return inputs


def run_reference(
    model: Model,
    goal: Objective,
    inputs: Inputs,
    dim: int,
    cond_proj: torch.Tensor | None,
    dtype: torch.dtype,
) -> dict[str, torch.Tensor]:
    """Run the reference's step in a precision, with the f32 guidance embedding, which counts as an input."""
    student = make_student(model.unet, dim, cond_proj).to(dtype)
    teacher = type(model.unet).from_config(model.unet.config)
    teacher.load_state_dict(model.unet.state_dict())
    distiller = Distiller(model.scheduler, teacher.to(dtype), student, goal)
    distiller.target.to(dtype)
    embedding = peer_step.guidance_embedding(inputs.w, dim).to(dtype)
    floats = {
        name: value.to(dtype) for name, value in vars(inputs).items() if value is not None and name != "index"
    }
    found = distiller.step(Inputs(**{**vars(inputs), **floats}), embedding)
    found["loss"].backward()
    return found | {f"grad.{name}": value.grad for name, value in student.named_parameters()}


def check_step(fewstep: Fewstep, model: Model, seed: int, table: Table) -> None:
    """Compare one step."""
    rng = random.Random(f"step/{seed}")
    goal, dim = draw_objective(rng), rng.choice((256, 64, 33))
    dim = model.unet.config.time_cond_proj_dim or dim
    inputs = draw_inputs(rng, model, f"{seed}/step", goal.num_ddim_timesteps)
    first = model.unet.config.block_out_channels[0]
    cond_proj = 0.2 * normal(f"{seed}/cond_proj", first, dim) if rng.random() < 0.6 else None
    given = {name: value for name, value in vars(inputs).items() if value is not None}
    if model.is_xl:
        del given["uncond_prompt_embeds"]
    if cond_proj is not None:
        given["init.time_embedding.cond_proj.weight"] = cond_proj
    flags = {"pretrained_teacher_model": model.folder, "unet_time_cond_proj_dim": dim, **asdict(goal)}
    arguments = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    label = f"{seed} step {model.scheduler.get('prediction_type', 'epsilon')} {goal.loss_type}"
    try:
        found = fewstep.debug("step", given, *arguments)
    except CommandError as error:
        table.fail(label, str(error))
        return
    wanted = run_reference(model, goal, inputs, dim, cond_proj, torch.float32)
    exact = run_reference(model, goal, inputs, dim, cond_proj, torch.float64)
    if missing := sorted(wanted.keys() - found.keys()):
        table.fail(label, f"absent: {missing[:4]}")
        return
    if extra := sorted(found.keys() - wanted.keys()):
        table.fail(label, f"unexpected: {extra[:4]}")
    loss_noise = distance(wanted["loss"], exact["loss"])
    loss_limit = max(LOSS_TOLERANCE, NOISE_FACTOR * loss_noise)
    loss_apart = min(distance(found["loss"].reshape(()), value["loss"]) for value in (wanted, exact))
    table.add(f"{label} loss", loss_apart, loss_limit)
    for name in ("model_pred", "target", "x_prev"):
        table.add(f"{label} {name}", distance(found[name], wanted[name]), TENSOR_TOLERANCE)
    gradients = [name for name in wanted if name.startswith("grad.")]
    floor = GRADIENT_FLOOR * max(wanted[name].abs().max().item() for name in gradients)
    rows = []
    for name in gradients:
        noise = distance(wanted[name], exact[name], floor)
        limit = max(GRADIENT_TOLERANCE, NOISE_FACTOR * noise)
        apart = min(distance(found[name], value[name], floor) for value in (wanted, exact))
        rows.append((apart / limit, name, noise, limit))
    ratio, name, noise, limit = max(rows)
    remark = f"worst {name}; f32 itself is uncertain by {noise:.0e}"
    table.add(f"{label} {len(rows)} gradients", ratio * limit, limit, remark)
