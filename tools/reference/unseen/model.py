"""A whole random model, saved as diffusers saves it."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTokenizer

from fixtures.common import fill_parameters, save_json
from fixtures.models import add_old_prefix
from fixtures.vocabulary import END, write_tokenizer

from . import draw


@dataclass
class Model:
    """A folder and the modules that it was saved from."""

    folder: Path
    parts: dict[str, torch.nn.Module]
    tokenizers: dict[str, CLIPTokenizer]
    scheduler: dict

    @property
    def is_xl(self) -> bool:
        """Say whether the UNet takes SDXL's added conditions."""
        return "text_encoder_2" in self.parts

    @property
    def unet(self) -> UNet2DConditionModel:
        """Return the teacher's UNet."""
        return self.parts["unet"]

    @property
    def pooled_width(self) -> int:
        """Return the width of SDXL's pooled text embedding."""
        return self.parts["text_encoder_2"].config.projection_dim

    def summary(self) -> str:
        """Say in a line what the UNet is."""
        keys = (
            "block_out_channels",
            "attention_head_dim",
            "transformer_layers_per_block",
            "layers_per_block",
        )
        kinds = "".join("A" if "Cross" in one else "-" for one in self.unet.config.down_block_types)
        return f"{kinds} " + " ".join(str(self.unet.config[key]).replace(" ", "") for key in keys)


def make_model(folder: Path, seed: int, is_xl: bool | None = None, **unet_options: object) -> Model:
    """Draw a model from a seed and write it; what is asked for of the UNet is not drawn."""
    rng = random.Random(seed)
    drawn = rng.random() < 0.3
    is_xl = drawn if is_xl is None else is_xl
    parts, tokenizers = {}, {}
    widths = []
    for suffix in ("", "_2") if is_xl else ("",):
        merges = rng.randint(0, 120)
        pad = rng.choice(("!", END))
        write_tokenizer(folder / f"tokenizer{suffix}", pad, merges)
        tokenizers[f"tokenizer{suffix}"] = CLIPTokenizer.from_pretrained(folder / f"tokenizer{suffix}")
        projection = rng.choice((12, 20)) if suffix else None
        encoder = draw.clip_model(rng, f"{seed}/text_encoder{suffix}", merges, projection)
        parts[f"text_encoder{suffix}"] = encoder
        widths.append(encoder.config.hidden_size)
    pooled = parts["text_encoder_2"].config.projection_dim if is_xl else None
    unet = UNet2DConditionModel(**draw.unet_config(rng, sum(widths), pooled) | unet_options)
    parts["unet"] = fill_parameters(unet, f"{seed}/unet")
    parts["vae"] = fill_parameters(AutoencoderKL(**draw.vae_config(rng)), f"{seed}/vae")
    for name, part in parts.items():
        shard = rng.choice(("10GB", "100KB")) if name == "unet" else "10GB"
        part.save_pretrained(folder / name, max_shard_size=shard)
    if rng.random() < 0.5:
        add_old_prefix(folder / "text_encoder")
    scheduler = draw.scheduler_config(rng)
    save_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    write_index(folder, parts, tokenizers, scheduler)
    return Model(folder, parts, tokenizers, scheduler)


def write_index(folder: Path, parts: dict, tokenizers: dict, scheduler: dict) -> None:
    """Write model_index.json for the components at hand."""
    is_xl = "text_encoder_2" in parts
    index = {
        "_class_name": "StableDiffusionXLPipeline" if is_xl else "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "scheduler": ["diffusers", scheduler["_class_name"]],
    }
    for name, part in parts.items():
        library = "transformers" if name.startswith("text") else "diffusers"
        index[name] = [library, type(part).__name__]
    for name in tokenizers:
        index[name] = ["transformers", "CLIPTokenizer"]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
