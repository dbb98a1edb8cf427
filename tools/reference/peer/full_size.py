"""The UNets of published size, without memory, and which of their modules the reference adapts."""

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from .step import TARGETS

UNETS = {
    "SD 1.5": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "SDXL": {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
COUNTS = {"SD 1.5": 278, "SDXL": 788}


def peft_keys(config: dict) -> dict[str, torch.Size]:
    """Return the names and shapes of a full-size adapter of rank 1."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
        unet.add_adapter(LoraConfig(r=1, lora_alpha=2, target_modules=list(TARGETS)))
    layers = get_peft_model_state_dict(unet, adapter_name="default")
    return {key: value.shape for key, value in layers.items()}


def adapted_modules(config: dict) -> list[str]:
    """Return the paths of the adapted modules, sorted."""
    return sorted({key.partition(".lora_")[0] for key in peft_keys(config)})
