"""Adapters of text encoders: through fewstep, into transformers' encoders."""

from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from fixtures.common import MODELS, normal
from unseen.command import Fewstep
from unseen.compare import Table

from .loading import load, scales

RANK, ALPHA = 2, 3.0
PROJECTIONS = ("self_attn.q_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")


def write_kohya(pipeline: StableDiffusionXLPipeline, path: Path) -> dict[str, set[str]]:
    """Write a kohya file for both encoders and one module of the UNet; return the modules of each network."""
    tensors, modules = {}, {"text_encoder": set(), "text_encoder_2": set(), "unet": set()}
    for part, prefix in (
        ("text_encoder", "lora_te1_"),
        ("text_encoder_2", "lora_te2_"),
        ("unet", "lora_unet_"),
    ):
        ends = PROJECTIONS if part != "unet" else ("attn2.to_v",)
        for name, module in getattr(pipeline, part).named_modules():
            if not name.endswith(ends):
                continue
            modules[part].add(name)
            full = name if part == "unet" or name.startswith("text_model.") else f"text_model.{name}"
            stem = prefix + full.replace(".", "_")
            tensors[f"{stem}.lora_down.weight"] = normal(f"{stem}/down", RANK, module.in_features)
            tensors[f"{stem}.lora_up.weight"] = normal(f"{stem}/up", module.out_features, RANK)
            tensors[f"{stem}.alpha"] = torch.tensor(ALPHA)
    save_file(tensors, path)
    return modules


def pipeline() -> StableDiffusionXLPipeline:
    """Return the tiny SDXL."""
    return StableDiffusionXLPipeline.from_pretrained(MODELS / "tiny-sdxl")


def check_text_encoders(fewstep: Fewstep, folder: Path, table: Table) -> None:
    """Check that both forms load with every module of three networks at its scale, and that none is lost."""
    source = folder / "kohya.safetensors"
    modules = write_kohya(pipeline(), source)
    tensors = len(load_file(source)) // 3
    table.add(
        "text encoders: modules", abs(tensors - sum(map(len, modules.values()))), 0, f"{tensors} modules"
    )
    for form in ("diffusers", "kohya"):
        path = folder / "pytorch_lora_weights.safetensors"
        fewstep.run("lora", "convert", str(source), str(path), "--to", form)
        loaded = pipeline()
        said = load(loaded, path)
        table.add(f"text encoders as {form}: keys", len(said.problems), 0, " | ".join(said.problems)[:300])
        for part, names in modules.items():
            found = scales(getattr(loaded, part))
            wanted = dict.fromkeys(names, ALPHA / RANK)
            off = [name for name in wanted | found if wanted.get(name) != found.get(name)]
            table.add(f"{part} as {form}: scales", len(off), 0, ", ".join(off[:3]))
