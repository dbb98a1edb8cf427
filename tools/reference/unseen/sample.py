"""`debug sample` against the LCM pipeline's loop."""

import random
from pathlib import Path
from unittest.mock import patch

import torch
from diffusers import LCMScheduler, UNet2DConditionModel

from fixtures.common import normal
from peer.schedule import guidance_embedding

from .command import CommandError, Fewstep
from .compare import Table, distance
from .model import Model

TOLERANCE = 1e-4


@torch.no_grad()
def run_reference(
    unet: UNet2DConditionModel, scheduler: LCMScheduler, given: dict, guidance: float, added: dict
) -> dict[str, torch.Tensor]:
    """Run the chain and return the latents after each step."""
    latents, noises = given["latents"], [given[name] for name in sorted(given) if name.startswith("noise.")]
    w = torch.full((len(latents),), guidance - 1)
    cond = guidance_embedding(w, unet.config.time_cond_proj_dim)
    out = {}
    with patch("diffusers.schedulers.scheduling_lcm.randn_tensor", side_effect=noises):
        for place, t in enumerate(scheduler.timesteps):
            output = unet(
                latents, t, given["prompt_embeds"], timestep_cond=cond, added_cond_kwargs=added
            ).sample
            latents = scheduler.step(output, t, latents).prev_sample
            out[f"latents.{place}"] = latents
    return out


def check_sample(fewstep: Fewstep, model: Model, seed: int, table: Table) -> None:
    """Compare one run with the student that the forward check saved."""
    rng = random.Random(f"sample/{seed}")
    folder: Path = model.folder / "student" / "unet"
    unet = UNet2DConditionModel.from_pretrained(folder)
    steps, guidance, original = rng.randint(1, 5), rng.uniform(1, 12), rng.choice((50, 50, 25))
    shape = (rng.randint(1, 2), 4, 8, 8)
    given = {"latents": normal(f"{seed}/sample/latents", *shape)}
    given |= {f"noise.{place}": normal(f"{seed}/sample/noise/{place}", *shape) for place in range(steps - 1)}
    given["prompt_embeds"] = normal(f"{seed}/sample/prompt", shape[0], 77, unet.config.cross_attention_dim)
    added = {}
    if model.is_xl:
        pooled = normal(f"{seed}/sample/pooled", shape[0], model.pooled_width)
        added = {
            "text_embeds": pooled,
            "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]]).repeat(shape[0], 1),
        }
    scheduler = LCMScheduler.from_config(model.scheduler, original_inference_steps=original)
    scheduler.set_timesteps(steps)
    label = f"{seed} sample {steps} steps"
    arguments = {
        "model": model.folder,
        "unet": folder,
        "steps": steps,
        "guidance_scale": guidance,
        "original_inference_steps": original,
    }
    flags = [part for name, value in arguments.items() for part in (f"--{name}", str(value))]
    try:
        found = fewstep.debug("sample", given | added, *flags)
    except CommandError as error:
        table.fail(label, str(error))
        return
    for name, value in run_reference(unet, scheduler, given, guidance, added).items():
        if name not in found:
            table.fail(f"{label} {name}", f"absent; there are {sorted(found)}")
        else:
            table.add(f"{label} {name}", distance(found[name], value), TOLERANCE)
