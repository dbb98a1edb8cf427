"""Run all five trainings on random models and open what they leave with diffusers.

    python tools/reference/check_recipes.py --fewstep target/release/fewstep --seed 123

Whole UNet and adapters, on a model with linear projections and on an SDXL whose sizes are drawn from the
seed, from shards and from a folder of pictures. Each takes ten optimiser steps, then every key must load, and
diffusers' UNet with what was trained must give the output of `fewstep debug forward`, to 1e-4 of its largest
number. Alphas are not ranks, so a file that loses them shows. The adapters are then written in every form
that the reference knows, all of which must give that output, and converted there and back. Prints a table;
exits with 1 when a row is wrong.
"""

import argparse
import itertools
import random
import tarfile
import tempfile
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from peft.tuners.lora import LoraLayer

from fixtures.common import ROOT, normal
from lora_files.forms import DIFFUSERS_FILE, attention, check_round_trip, forms, unet_layers
from lora_files.loading import load, scales
from peer.quiet import hush
from unseen.command import CommandError, Fewstep
from unseen.compare import Table, distance
from unseen.model import Model, make_model

SHARD = ROOT / "data" / "good.tar"
RANK, ALPHA = 3, 5
FULL = ("--learning_rate", "1e-3", "--unet_time_cond_proj_dim", "12")
LORA = ("--learning_rate", "3e-2", "--lora_rank", str(RANK), "--lora_alpha", str(ALPHA))
TRAININGS = {
    "SD, whole": ("SD", FULL),
    "SD, adapters": ("SD", LORA),
    "SDXL, whole": ("SDXL", FULL),
    "SDXL, adapters": ("SDXL", LORA),
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
    for name in (DIFFUSERS_FILE, "lora_kohya.safetensors"):
        pipeline = DiffusionPipeline.from_pretrained(model)
        given = inputs_for(pipeline.unet, what)
        bare = output(pipeline.unet, given)
        said = load(pipeline, out / name)
        table.add(f"{what}: keys of {name}", len(said.problems), 0, " | ".join(said.problems)[:200])
        off = [scale for scale in scales(pipeline.unet).values() if abs(scale - ALPHA / RANK) > 1e-6]
        table.add(f"{what}: alphas lost by {name}", len(off), 0)
        adapted = output(pipeline.unet, given)
        found = fewstep.debug("forward", given, *common(model), "--lora", str(out / name))
        table.add(f"{what}: output with {name}", distance(found["sample"], adapted), TOLERANCE)
        table.add(f"{what}: {name} does nothing", float(distance(bare, adapted) < 1e-3), 0)
    check_round_trip(fewstep, what, out / DIFFUSERS_FILE, out, table)
    check_forms(fewstep, what, model, out, pipeline, table)


def check_forms(
    fewstep: Fewstep, what: str, model: Path, out: Path, pipeline: DiffusionPipeline, table: Table
) -> None:
    """Write the adapters in every form, and compare the UNet; `pipeline` has them."""
    given = inputs_for(pipeline.unet, what)
    wanted = {False: output(pipeline.unet, given)}
    for name, module in pipeline.unet.named_modules():
        if isinstance(module, LoraLayer) and ".attn" not in name:
            module.set_scale("checked", 0.0)
    wanted[True] = output(pipeline.unet, given)
    layers = unet_layers(out / DIFFUSERS_FILE)
    written = forms(out / "forms", type(pipeline), layers, RANK, ALPHA)
    for form, (path, has_alphas, is_attention) in written.items():
        if is_attention and not attention(layers):
            continue
        read = path
        try:
            if not has_alphas:
                read = out / "told.safetensors"
                convert = ("lora", "convert", str(path), str(read), "--to", "diffusers")
                fewstep.run(*convert, "--alpha", str(ALPHA))
            found = fewstep.debug("forward", given, *common(model), "--lora", str(read))
        except CommandError as error:
            table.fail(f"{what}: {form}", str(error))
            continue
        table.add(f"{what}: {form}", distance(found["sample"], wanted[is_attention]), TOLERANCE)


def common(model: Path) -> tuple[str, ...]:
    """Return the flags of every forward pass."""
    return ("--model", str(model), "--component", "unet")


def draw_model(folder: Path, seed: int, **options: object) -> Model:
    """Draw the first model from this seed on that attends to its prompts on the way down."""
    for one in itertools.count(seed):
        model = make_model(folder / str(one), one, **options)
        if any("CrossAttn" in kind for kind in model.unet.config.down_block_types):
            return model
    raise AssertionError


def train(fewstep: Fewstep, what: str, model: Model, out: Path, flags: tuple[str, ...], table: Table) -> None:
    """Train for ten steps, and check what is left."""
    # Latents of 16 by 16, whatever the VAE's levels.
    side = 16 * 2 ** (len(model.parts["vae"].config.block_out_channels) - 1)
    places = ("--pretrained_teacher_model", str(model.folder), "--output_dir", str(out))
    run = ("--resolution", str(side), "--train_batch_size", "2", "--max_train_steps", "10", "--device", "cpu")
    try:
        fewstep.run("train", *places, *run, *flags)
        compare(fewstep, what, model.folder, out, table)
    except CommandError as error:
        table.fail(what, str(error))


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
        models = {
            "SD": draw_model(folder / "SD", arguments.seed, is_xl=False, use_linear_projection=True),
            "SDXL": draw_model(folder / "SDXL", arguments.seed, is_xl=True),
        }
        for name, model in models.items():
            print(f"{name} {model.summary()}", flush=True)
        for what, (family, flags) in TRAININGS.items():
            for source, place in data.items():
                run = folder / f"{what} {source}"
                train(fewstep, f"{what}, {source}", models[family], run, (*flags, *place), table)
    print(f"{len(table.rows)} comparisons, {table.failures()} beyond tolerance")
    return 1 if table.failures() else 0


if __name__ == "__main__":
    raise SystemExit(main())
