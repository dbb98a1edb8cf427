"""The key lists of full-size UNets: what PEFT names, what fewstep writes, what diffusers reads back."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers
from diffusers.utils import convert_unet_state_dict_to_peft
from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
from safetensors.torch import load_file

from peer.full_size import COUNTS, UNETS, peft_keys
from unseen.command import Fewstep
from unseen.compare import Table


def shapes(path: Path) -> dict[str, torch.Size]:
    """Return names and shapes of a file."""
    return {key: value.shape for key, value in load_file(path).items()}


def check_full_size(fewstep: Fewstep, folder: Path, table: Table) -> None:
    """Send the reference's mixed file through kohya's names and back, and compare every key."""
    for name, config in UNETS.items():
        keys, count = peft_keys(config), COUNTS[name]
        table.add(f"{name}: modules", abs(len(keys) // 2 - count), 0, f"{len(keys) // 2} modules")
        wanted = {f"unet.{key}": shape for key, shape in keys.items()}
        source = folder / "source"
        layers = {key: torch.zeros(shape, dtype=torch.float16) for key, shape in keys.items()}
        StableDiffusionPipeline.save_lora_weights(
            source, unet_lora_layers=convert_state_dict_to_diffusers(layers)
        )
        kohya, back = folder / "kohya.safetensors", folder / "back.safetensors"
        fewstep.run("lora", "convert", str(source), str(kohya), "--to", "kohya", "--alpha", "2")
        fewstep.run("lora", "convert", str(kohya), str(back), "--to", "diffusers")
        found = shapes(back)
        wrong = [key for key in wanted | found if wanted.get(key) != found.get(key)]
        table.add(f"{name}: diffusers' names", len(wrong), 0, ", ".join(wrong[:3]))
        read, alphas = _convert_non_diffusers_lora_to_diffusers(load_file(kohya))
        read = {key: value.shape for key, value in convert_unet_state_dict_to_peft(read).items()}
        wrong = [key for key in wanted | read if wanted.get(key) != read.get(key)]
        table.add(f"{name}: kohya's names, read by diffusers", len(wrong), 0, ", ".join(wrong[:3]))
        table.add(f"{name}: alphas, read by diffusers", sum(one != 2 for one in alphas.values()), 0)
