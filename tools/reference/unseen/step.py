"""`debug step` of whole UNets and of adapters against the reference's formulas: loss and every gradient."""

import random
from dataclasses import asdict, dataclass

import torch

from fixtures.common import normal, uniform
from peer import step as peer_step
from peer.step import Distiller, Inputs, Objective, trained

from .command import CommandError, Fewstep
from .compare import Table, distance
from .model import Model
from .student import DrawStudent, Student

LOSS_TOLERANCE, TENSOR_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4, 1e-4
# What counts is the distance to the reference in f32 or to its formulas in double precision, whichever is
# less: both round, and where a sample is noisy, the Huber loss bends or a norm has two numbers to look at,
# their roundings add up. How far they do is measured: as the distance between these two, and as the one that
# the reference moves where its inputs are moved to the next number of f32. The tolerance is never below the
# largest of these, times this.
NOISE_FACTOR = 4.0
NUDGES = 2
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
    model: Model, goal: Objective, inputs: Inputs, what: Student, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Run the reference's step in a precision, with the f32 guidance embedding, which counts as an input."""
    teacher = type(model.unet).from_config(model.unet.config)
    teacher.load_state_dict(model.unet.state_dict())
    student = what.of(teacher).to(dtype)
    distiller = Distiller(model.scheduler, teacher.to(dtype), student, goal)
    distiller.target.to(dtype)
    width = student.config.time_cond_proj_dim
    embedding = peer_step.guidance_embedding(inputs.w, width).to(dtype) if width else None
    floats = {
        name: value.to(dtype) for name, value in vars(inputs).items() if value is not None and name != "index"
    }
    found = distiller.step(Inputs(**{**vars(inputs), **floats}), embedding)
    found["loss"].backward()
    return found | {f"grad.{name}": value.grad for name, value in trained(student).items()}


def nudged(inputs: Inputs, label: str) -> Inputs:
    """Return the inputs with every drawn number moved up or down by the last bit of f32."""
    moved = {}
    for name in ("latents", "noise", "prompt_embeds"):
        value = getattr(inputs, name)
        up = torch.full_like(value, float("inf")) * normal(f"{label}/{name}", *value.shape).sign()
        moved[name] = torch.nextafter(value, up)
    return Inputs(**{**vars(inputs), **moved})


def check_step(
    fewstep: Fewstep, model: Model, seed: int, kind: str, draw_student: DrawStudent, table: Table
) -> None:
    """Compare one step of the kind of student that `draw_student` draws."""
    label = f"{seed}/{kind}"
    rng = random.Random(label)
    goal = draw_objective(rng)
    inputs = draw_inputs(rng, model, label, goal.num_ddim_timesteps)
    student = draw_student(rng, model, label)
    given = {name: value for name, value in vars(inputs).items() if value is not None}
    if model.is_xl:
        del given["uncond_prompt_embeds"]
    given |= {f"init.{name}": value for name, value in student.init.items()}
    flags = {"pretrained_teacher_model": model.folder, **student.flags(), **asdict(goal)}
    arguments = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    label = f"{seed} {kind} {model.scheduler.get('prediction_type', 'epsilon')} {goal.loss_type}"
    try:
        found = fewstep.debug("step", given, *arguments)
    except CommandError as error:
        table.fail(label, str(error))
        return
    wanted = run_reference(model, goal, inputs, student, torch.float32)
    exact = run_reference(model, goal, inputs, student, torch.float64)
    close = [nudged(inputs, f"{label}/{place}") for place in range(NUDGES)]
    moved = [run_reference(model, goal, one, student, torch.float32) for one in close]
    if missing := sorted(wanted.keys() - found.keys()):
        table.fail(label, f"absent: {missing[:4]}")
        return
    if extra := sorted(found.keys() - wanted.keys()):
        table.fail(label, f"unexpected: {extra[:4]}")
    compare(label, found, Reference(wanted, exact, moved), table)


@dataclass
class Reference:
    """What the reference makes of a step."""

    f32: dict[str, torch.Tensor]
    f64: dict[str, torch.Tensor]
    nudged: list[dict[str, torch.Tensor]]

    def noise(self, name: str, floor: float = 0.0) -> float:
        """Return how uncertain f32 leaves one of its tensors."""
        others = (self.f64, *self.nudged)
        return max(distance(self.f32[name], other[name], floor) for other in others)

    def apart(self, name: str, found: torch.Tensor, floor: float = 0.0) -> float:
        """Return the distance to the nearer one of f32 and double precision."""
        return min(distance(found, value[name], floor) for value in (self.f32, self.f64))


def compare(label: str, found: dict[str, torch.Tensor], reference: Reference, table: Table) -> None:
    """Compare what came of a step with the reference."""
    wanted = reference.f32
    loss_limit = max(LOSS_TOLERANCE, NOISE_FACTOR * reference.noise("loss"))
    table.add(f"{label} loss", reference.apart("loss", found["loss"].reshape(())), loss_limit)
    for name in ("model_pred", "target", "x_prev"):
        table.add(f"{label} {name}", distance(found[name], wanted[name]), TENSOR_TOLERANCE)
    gradients = [name for name in wanted if name.startswith("grad.")]
    floor = GRADIENT_FLOOR * max(wanted[name].abs().max().item() for name in gradients)
    rows = []
    for name in gradients:
        noise = reference.noise(name, floor)
        limit = max(GRADIENT_TOLERANCE, NOISE_FACTOR * noise)
        rows.append((reference.apart(name, found[name], floor) / limit, name, noise, limit))
    ratio, name, noise, limit = max(rows)
    remark = f"worst {name}; f32 itself is uncertain by {noise:.0e}"
    table.add(f"{label} {len(rows)} gradients", ratio * limit, limit, remark)
