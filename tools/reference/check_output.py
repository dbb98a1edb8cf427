"""Open the folder of a finished run with diffusers: nothing missing, nothing left over, and it paints.

    python tools/reference/check_output.py OUT --teacher DIR

`unet/`, `unet_target/` and `scheduler/` below OUT must load without a missing, unexpected or mismatched key,
and each network must paint a finite picture in the LCM pipeline with the teacher's other components. With
`--checkpoint NAME` the networks of OUT/NAME are checked too. Exits with 1 and says why when something is
wrong.
"""

import argparse
import json
from pathlib import Path

import torch
from diffusers import (
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

from peer.quiet import hush

BETA_KEYS = ("beta_start", "beta_end", "beta_schedule", "prediction_type", "num_train_timesteps")


class WrongOutputError(Exception):
    """What is wrong with the folder."""


def load_unet(folder: Path) -> UNet2DConditionModel:
    """Load a UNet and insist on every key."""
    unet, info = UNet2DConditionModel.from_pretrained(folder, output_loading_info=True)
    for kind, keys in info.items():
        if keys:
            raise WrongOutputError(f"{folder}: {kind}: {keys[:5]}")
    if not unet.config.time_cond_proj_dim:
        raise WrongOutputError(
            f"{folder}: time_cond_proj_dim is not set, so the student cannot take a guidance scale"
        )
    bad = [name for name, value in unet.named_parameters() if not value.isfinite().all()]
    if bad:
        raise WrongOutputError(f"{folder}: not finite: {bad[:5]}")
    return unet


def load_scheduler(folder: Path, teacher: dict) -> LCMScheduler:
    """Load the scheduler and compare its noise schedule with the teacher's."""
    config = json.loads((folder / "scheduler_config.json").read_text())
    if config.get("_class_name") != "LCMScheduler":
        raise WrongOutputError(f"{folder}: _class_name is {config.get('_class_name')}, not LCMScheduler")
    known = set(LCMScheduler().config)
    unknown = [key for key in config if key not in known and not key.startswith("_")]
    if unknown:
        raise WrongOutputError(f"{folder}: LCMScheduler does not know {unknown}")
    scheduler = LCMScheduler.from_pretrained(folder)
    for key in BETA_KEYS:
        if key in teacher and teacher[key] != scheduler.config[key]:
            raise WrongOutputError(
                f"{folder}: {key} is {scheduler.config[key]}, the teacher's is {teacher[key]}"
            )
    return scheduler


def paint(teacher: StableDiffusionPipeline, unet: UNet2DConditionModel, scheduler: LCMScheduler) -> None:
    """Paint one picture in two steps, and insist that it is finite and not of one colour."""
    pipeline = LatentConsistencyModelPipeline(
        vae=teacher.vae,
        text_encoder=teacher.text_encoder,
        tokenizer=teacher.tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(1)
    pixels = pipeline("a red circle", num_inference_steps=2, generator=generator, output_type="pt").images
    if not pixels.isfinite().all() or pixels.std() == 0:
        raise WrongOutputError("the picture is not finite, or all of one colour")


def check(out: Path, teacher_folder: Path, folders: list[Path]) -> None:
    """Check everything; raise at the first thing that is wrong."""
    teacher = StableDiffusionPipeline.from_pretrained(teacher_folder, safety_checker=None)
    config = json.loads((teacher_folder / "scheduler" / "scheduler_config.json").read_text())
    scheduler = load_scheduler(out / "scheduler", config)
    loaded = {}
    for folder in folders:
        for name in ("unet", "unet_target"):
            unet = load_unet(folder / name)
            paint(teacher, unet, scheduler)
            loaded[folder / name] = unet
            dim = unet.config.time_cond_proj_dim
            print(f"{folder / name}: {len(unet.state_dict())} tensors, time_cond_proj_dim {dim}")
    student, target = loaded[out / "unet"], loaded[out / "unet_target"]
    pairs = zip(student.parameters(), target.parameters(), strict=True)
    if all(torch.equal(one, other) for one, other in pairs):
        raise WrongOutputError(
            f"{out}: unet and unet_target are the same, so nothing was trained or averaged"
        )


def main() -> int:
    """Check the folder named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the run's output_dir")
    parser.add_argument("--teacher", type=Path, required=True, help="the teacher's folder")
    parser.add_argument(
        "--checkpoint", action="append", default=[], help="a checkpoint's folder name; repeatable"
    )
    arguments = parser.parse_args()
    hush()
    folders = [arguments.out, *(arguments.out / name for name in arguments.checkpoint)]
    try:
        check(arguments.out, arguments.teacher, folders)
    except (WrongOutputError, OSError, ValueError, RuntimeError) as error:
        print(f"wrong: {error}")
        return 1
    print("diffusers loads everything and paints")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
