"""An adapter in every form that the reference writes or that is about, and what fewstep makes of each."""

import json
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from unseen.command import CommandError, Fewstep
from unseen.compare import Table

Layers = dict[str, torch.Tensor]

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"


def write(path: Path, tensors: Layers) -> Path:
    """Write a file as safetensors' users do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata={"format": "pt"})
    return path


def attention(layers: Layers) -> Layers:
    """Return the part that the names of 2023 have words for."""
    return {key: value for key, value in layers.items() if ".attn1." in key or ".attn2." in key}


def old_names(layers: Layers) -> Layers:
    """Return diffusers' names of 2023, for a UNet alone."""
    return {f"unet.{key}": value for key, value in convert_state_dict_to_diffusers(layers).items()}


def processor_names(layers: Layers) -> Layers:
    """Return the still older names, with the attention's processor in them."""
    renamed = {}
    for key, value in old_names(layers).items():
        block, _, rest = key.partition(".attn")
        number, _, word = rest.partition(".")
        word = word.replace("to_out.0", "to_out").replace(".lora.", "_lora.")
        renamed[f"{block}.attn{number}.processor.{word}"] = value
    return renamed


def kohya_names(layers: Layers, alpha: float) -> Layers:
    """Return the names that the reference's scripts validate with, with an alpha each."""
    renamed = {}
    for key, value in layers.items():
        path, _, matrix = key.partition(".lora_")
        name = f"lora_unet_{path.replace('.', '_')}"
        renamed[f"{name}.lora_{'down' if matrix[0] == 'A' else 'up'}.weight"] = value
        renamed[f"{name}.alpha"] = torch.tensor(alpha)
    return renamed


def write_peft(folder: Path, layers: Layers, rank: int, alpha: float) -> Path:
    """Write PEFT's folder."""
    write(
        folder / "adapter_model.safetensors",
        {f"base_model.model.{key}": value for key, value in layers.items()},
    )
    modules = sorted({key.partition(".lora_")[0] for key in layers})
    LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules).save_pretrained(folder)
    return folder


def forms(
    folder: Path, kind: type[DiffusionPipeline], layers: Layers, rank: int, alpha: float
) -> dict[str, tuple[Path, bool, bool]]:
    """Write every form; return where it is, whether it states alphas, and whether it is attention alone."""
    modules = sorted({key.partition(".lora_")[0] for key in layers})
    settings = LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules).to_dict()
    settings["target_modules"] = modules
    for name, metadata in {"a": settings, "bare": None}.items():
        kind.save_lora_weights(folder / name, unet_lora_layers=layers, unet_lora_adapter_metadata=metadata)
    wrapped = {f"unet.base_model.model.{key}": value for key, value in layers.items()}
    return {
        "(a) diffusers, with metadata": (folder / "a" / DIFFUSERS_FILE, True, False),
        "(a) diffusers, without": (folder / "bare" / DIFFUSERS_FILE, False, False),
        "(b) old diffusers": (write(folder / "b.safetensors", old_names(attention(layers))), False, True),
        "(b) processors": (write(folder / "p.safetensors", processor_names(attention(layers))), False, True),
        "(c) mixed names": (write(folder / "c.safetensors", old_names(layers)), False, False),
        "(d) wrapped names": (write(folder / "d.safetensors", wrapped), False, False),
        "(e) PEFT's folder": (write_peft(folder / "e", layers, rank, alpha), True, False),
        "(f) kohya": (write(folder / "f.safetensors", kohya_names(layers, alpha)), True, False),
    }


def unet_layers(path: Path) -> Layers:
    """Return the UNet's matrices of diffusers' file, under PEFT's names."""
    return {key.removeprefix("unet."): value for key, value in load_file(path).items()}


def settings_of(path: Path) -> dict:
    """Return the settings in the metadata of diffusers' file."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["lora_adapter_metadata"])


def check_round_trip(fewstep: Fewstep, what: str, path: Path, folder: Path, table: Table) -> None:
    """Send diffusers' file through kohya's names and back: the same matrices and settings."""
    kohya, back = folder / "there.safetensors", folder / "back.safetensors"
    try:
        fewstep.run("lora", "convert", str(path), str(kohya), "--to", "kohya")
        fewstep.run("lora", "convert", str(kohya), str(back), "--to", "diffusers")
    except CommandError as error:
        table.fail(f"{what}: round trip", str(error))
        return
    there, here = load_file(path), load_file(back)
    off = [
        key for key in there | here if key not in there or not torch.equal(there[key], here.get(key, there))
    ]
    table.add(f"{what}: tensors changed by a round trip", len(off), 0, ", ".join(off[:3]))
    one, other = settings_of(path), settings_of(back)
    for each in (one, other):
        each["unet.target_modules"] = sorted(each["unet.target_modules"])
    off = [key for key in one | other if one.get(key) != other.get(key)]
    table.add(f"{what}: settings changed by a round trip", len(off), 0, ", ".join(off[:3]))
