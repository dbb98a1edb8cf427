"""Run all five trainings on random models and open what they leave with diffusers.

    python tools/reference/check_recipes.py --fewstep target/release/fewstep --seed 123

Whole UNet and adapters, on a model with linear projections and on a small SDXL, from shards; and SDXL
adapters from a folder of pictures. Each takes ten optimiser steps, then every key must load, and diffusers'
UNet with what was trained must give the output of `fewstep debug forward`, to 1e-4 of its largest number.
Alphas are not ranks, so a file that loses them shows. Prints a table; exits with 1 when a row is wrong.
"""

import argparse
import random
import tarfile
import tempfile
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel

from fixtures.common import ROOT, normal
from lora_files.loading import load
from peer.quiet import hush
from unseen.command import CommandError, Fewstep
from unseen.compare import Table, distance

SHARD = ROOT / "data" / "good.tar"
FULL = ("--learning_rate", "1e-2", "--unet_time_cond_proj_dim", "12")
LORA = ("--learning_rate", "1e-1", "--lora_rank", "3", "--lora_alpha", "5")
RECIPES = {
    "SD, whole": ("tiny-sd2", FULL, "shards"),
    "SD, adapters": ("tiny-sd2", LORA, "shards"),
    "SDXL, whole": ("tiny-sdxl", FULL, "shards"),
    "SDXL, adapters": ("tiny-sdxl", LORA, "shards"),
    "SDXL, adapters, folder": ("tiny-sdxl", LORA, "folder"),
}
TOLERANCE = 1e-4


def inputs_for(unet: UNet2DConditionModel, label: str) -> dict[str, torch.Tensor]:
    """Draw what a UNet is given."""
    config = unet.config
    given = {
        "sample": normal(f"{label}/sample", 2, config.in_channels, 8, 12),
        "timestep": torch.tensor([999, 259]),
        "encoder_hidden_states": normal(f"{label}/prompt", 2, 77, config.cross_attention_dim),
    }
    if config.time_cond_proj_dim:
        given["timestep_cond"] = normal(f"{label}/w", 2, config.time_cond_proj_dim)
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        given["text_embeds"] = normal(f"{label}/pooled", 2, pooled)
        given["time_ids"] = torch.tensor([[1023.0, 765.0, 3.0, 0.0, 512.0, 512.0]] * 2)
    return given


@torch.no_grad()
def output(unet: UNet2DConditionModel, given: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return what diffusers' UNet answers."""
    added = {name: given[name] for name in ("text_embeds", "time_ids") if name in given}
    states = given["encoder_hidden_states"]
    cond = given.get("timestep_cond")
    return unet(
        given["sample"], given["timestep"], states, timestep_cond=cond, added_cond_kwargs=added
    ).sample


def compare(fewstep: Fewstep, what: str, model: Path, out: Path, table: Table) -> None:
    """Load what a run left with diffusers, and compare the UNet."""
    if (out / "unet").is_dir():
        for name in ("unet", "unet_target"):
            unet, info = UNet2DConditionModel.from_pretrained(out / name, output_loading_info=True)
            wrong = [key for keys in info.values() for key in keys]
            table.add(f"{what}: keys of {name}", len(wrong), 0, str(wrong[:3]))
            given = inputs_for(unet, what)
            found = fewstep.debug("forward", given, *common(model), "--unet", str(out / name))
            table.add(f"{what}: output of {name}", distance(found["sample"], output(unet, given)), TOLERANCE)
        return
    for name in ("pytorch_lora_weights.safetensors", "lora_kohya.safetensors"):
        pipeline = DiffusionPipeline.from_pretrained(model)
        given = inputs_for(pipeline.unet, what)
        bare = output(pipeline.unet, given)
        said = load(pipeline, out / name)
        table.add(f"{what}: keys of {name}", len(said.problems), 0, " | ".join(said.problems)[:200])
        adapted = output(pipeline.unet, given)
        found = fewstep.debug("forward", given, *common(model), "--lora", str(out / name))
        table.add(f"{what}: output with {name}", distance(found["sample"], adapted), TOLERANCE)
        table.add(f"{what}: {name} does nothing", float(distance(bare, adapted) < 1e-3), 0)


def common(model: Path) -> tuple[str, ...]:
    """Return the flags of every forward pass."""
    return ("--model", str(model), "--component", "unet")


def main() -> int:
    """Train and check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fewstep", type=Path, required=True, help="the binary")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the random models")
    arguments = parser.parse_args()
    hush()
    torch.set_num_threads(1)
    fewstep, table = Fewstep(arguments.fewstep.resolve()), Table()
    print(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        with tarfile.open(SHARD) as shard:
            shard.extractall(folder / "pictures", filter="data")
        data = {
            "shards": ("--train_shards_path_or_url", str(SHARD)),
            "folder": ("--train_data_dir", str(folder / "pictures")),
        }
        for number, (what, (arch, flags, source)) in enumerate(RECIPES.items()):
            model, out = folder / arch, folder / f"run-{number}"
            try:
                if not model.is_dir():
                    fewstep.run(
                        "debug", "init", "--arch", arch, "--seed", str(arguments.seed), "--output", str(model)
                    )
                run = ("--resolution", "64", "--train_batch_size", "2", "--max_train_steps", "10")
                places = (
                    "--pretrained_teacher_model",
                    str(model),
                    "--output_dir",
                    str(out),
                    "--device",
                    "cpu",
                )
                fewstep.run("train", *places, *run, *data[source], *flags)
                compare(fewstep, what, model, out, table)
            except CommandError as error:
                table.fail(what, str(error))
    print(f"{len(table.rows)} comparisons, {table.failures()} beyond tolerance")
    return 1 if table.failures() else 0


if __name__ == "__main__":
    raise SystemExit(main())
