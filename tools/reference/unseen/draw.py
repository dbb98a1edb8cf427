"""Random configurations of every component, as varied as the files that people load."""

import random

from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from fixtures.common import fill_parameters
from fixtures.vocabulary import vocabulary

SCHEDULER_CLASSES = ("PNDMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "DDPMScheduler")


def unet_config(rng: random.Random, cross_attention_dim: int, pooled: int | None) -> dict:
    """Draw a UNet with one to four levels; `pooled` asks for SDXL's added conditions of that width."""
    levels = rng.randint(1, 4)
    groups = rng.choice((2, 4))
    channels = tuple(rng.choice((8, 16, 24)) for _ in range(levels))
    attentive = [rng.random() < 0.6 for _ in range(levels)]
    heads = [rng.choice((1, 2, 4)) for _ in channels]
    depth = [rng.randint(1, 2) for _ in channels]
    up_attentive = attentive[::-1] if rng.random() < 0.8 else [rng.random() < 0.5 for _ in range(levels)]
    config = {
        "sample_size": 8,
        "block_out_channels": channels,
        "down_block_types": tuple("CrossAttnDownBlock2D" if one else "DownBlock2D" for one in attentive),
        "up_block_types": tuple("CrossAttnUpBlock2D" if one else "UpBlock2D" for one in up_attentive),
        "layers_per_block": rng.randint(1, 3),
        "attention_head_dim": rng.choice((tuple(heads), heads[0])),
        "transformer_layers_per_block": rng.choice((1, 2, tuple(depth))),
        "cross_attention_dim": cross_attention_dim,
        "norm_num_groups": groups,
        "norm_eps": rng.choice((1e-5, 1e-6)),
        "use_linear_projection": rng.random() < 0.5,
        "upcast_attention": rng.random() < 0.3,
        "flip_sin_to_cos": rng.random() < 0.8,
        "freq_shift": rng.choice((0, 0, 1)),
    }
    if rng.random() < 0.5:
        config |= rare_options(rng, levels)
    if pooled is not None:
        width = rng.choice((4, 8))
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": width,
            "projection_class_embeddings_input_dim": pooled + 6 * width,
        }
    return config


def rare_options(rng: random.Random, levels: int) -> dict:
    """Draw a few of the options that few files set."""
    acts = ("silu", "gelu", "mish", "relu")
    options = {
        "layers_per_block": tuple(rng.randint(1, 2) for _ in range(levels)),
        "only_cross_attention": tuple(rng.random() < 0.5 for _ in range(levels)),
        "mid_block_type": rng.choice((None, "UNetMidBlock2D")),
        "center_input_sample": True,
        "mid_block_scale_factor": rng.choice((0.7, 1.5)),
        "act_fn": rng.choice(acts),
        "resnet_time_scale_shift": "scale_shift",
        "time_embedding_dim": rng.choice((20, 36)),
        "time_embedding_act_fn": rng.choice(acts),
        "timestep_post_act": rng.choice(acts),
        "conv_in_kernel": rng.choice((1, 5)),
        "conv_out_kernel": rng.choice((1, 5)),
        "time_cond_proj_dim": rng.choice((16, 21)),
    }
    return {name: value for name, value in options.items() if rng.random() < 0.2}


def vae_config(rng: random.Random) -> dict:
    """Draw an autoencoder with one to four levels."""
    levels = rng.randint(1, 4)
    return {
        "block_out_channels": tuple(rng.choice((8, 16)) for _ in range(levels)),
        "layers_per_block": rng.randint(1, 2),
        "norm_num_groups": rng.choice((2, 4)),
        "latent_channels": 4,
        "scaling_factor": rng.choice((0.18215, 0.13025, 0.7)),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }


def clip_model(rng: random.Random, label: str, merge_count: int, projection: int | None) -> CLIPTextModel:
    """Draw a text encoder over the vocabulary with this number of merges."""
    ids, _ = vocabulary(merge_count)
    heads = rng.choice((1, 2, 4))
    hidden = heads * rng.choice((8, 10, 12))
    config = CLIPTextConfig(
        vocab_size=len(ids),
        hidden_size=hidden,
        intermediate_size=hidden * rng.choice((2, 3)),
        num_hidden_layers=rng.randint(2, 5),
        num_attention_heads=heads,
        hidden_act=rng.choice(("quick_gelu", "gelu")),
        layer_norm_eps=rng.choice((1e-5, 1e-6)),
        max_position_embeddings=77,
        bos_token_id=len(ids) - 2,
        eos_token_id=rng.choice((2, len(ids) - 1)),
        pad_token_id=1,
        projection_dim=projection or 512,
    )
    kind = CLIPTextModelWithProjection if projection else CLIPTextModel
    return fill_parameters(kind(config), label)


def scheduler_config(rng: random.Random) -> dict:
    """Draw a scheduler file."""
    prediction = rng.choice(("epsilon", "v_prediction", "sample"))
    betas = rng.choice(
        (
            {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"},
            {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"},
            {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "squaredcos_cap_v2"},
        )
    )
    config = {
        "_class_name": rng.choice(SCHEDULER_CLASSES),
        "_diffusers_version": "0.20.0",
        "num_train_timesteps": 1000,
        "clip_sample": False,
        "steps_offset": 1,
        "set_alpha_to_one": False,
        "trained_betas": None,
        **betas,
    }
    if prediction != "epsilon" or rng.random() < 0.5:
        config["prediction_type"] = prediction
    if prediction == "v_prediction" and rng.random() < 0.4:
        config["rescale_betas_zero_snr"] = True
    return config


WORDS = (
    "red",
    "circle",
    "above",
    "The",
    "CAT's",
    "東京",
    "🦀",
    "42",
    "--",
    "naïve",
    "photo,",
    "it'll",
    "<x>",
    "\t",
)


def text(rng: random.Random) -> str:
    """Draw a string: words, and now and then arbitrary characters."""
    words = [rng.choice(WORDS) for _ in range(rng.choice((0, 1, 5, 12, 60)))]
    if rng.random() < 0.4:
        words.append(
            "".join(chr(rng.choice((rng.randint(33, 126), rng.randint(161, 0x2FFF)))) for _ in range(9))
        )
    return rng.choice((" ", "", "  ")).join(words)
