"""`debug forward` against each component's own forward."""

import random

import torch
from diffusers import UNet2DConditionModel

from fixtures.common import fill_parameters, normal, uniform
from peer.step import with_guidance

from .command import CommandError, Fewstep
from .compare import Table, distance
from .draw import text
from .model import Model

TOLERANCE = 1e-4


class Forward:
    """The checks of one model's components."""

    def __init__(self, fewstep: Fewstep, model: Model, seed: int, table: Table) -> None:
        """Keep what every check needs."""
        self.fewstep, self.model, self.seed, self.table = fewstep, model, seed, table
        self.rng = random.Random(f"forward/{seed}")

    def compare(
        self, component: str, inputs: dict, wanted: dict, *arguments: str, exact: bool = False
    ) -> None:
        """Run one component and record each output."""
        label = f"{self.seed} {component}" + (" (time cond)" if "--unet" in arguments else "")
        folder = ("--model", str(self.model.folder), "--component", component)
        try:
            found = self.fewstep.debug("forward", inputs, *folder, *arguments)
        except CommandError as error:
            self.table.fail(label, str(error))
            return
        for name, value in wanted.items():
            if name not in found:
                self.table.fail(f"{label} {name}", f"absent; there are {sorted(found)}")
            else:
                tolerance = 0.0 if exact else TOLERANCE
                self.table.add(f"{label} {name}", distance(found[name], value), tolerance)

    @torch.no_grad()
    def unet(self, unet: UNet2DConditionModel, *arguments: str) -> None:
        """Compare a forward of a UNet at an odd size, or an even one."""
        label = f"{self.seed}/forward/{len(arguments)}"
        batch, height, width = self.rng.randint(1, 3), self.rng.randint(5, 17), self.rng.randint(5, 17)
        inputs = {
            "sample": normal(f"{label}/sample", batch, unet.config.in_channels, height, width),
            "timestep": torch.tensor([self.rng.randint(0, 999) for _ in range(batch)]),
            "encoder_hidden_states": normal(
                f"{label}/text", batch, self.rng.choice((77, 7)), unet.config.cross_attention_dim
            ),
        }
        if unet.config.time_cond_proj_dim:
            inputs["timestep_cond"] = normal(f"{label}/cond", batch, unet.config.time_cond_proj_dim)
        added = {}
        if self.model.is_xl:
            sizes = [[float(self.rng.randint(0, 2000)) for _ in range(6)] for _ in range(batch)]
            pooled = normal(f"{label}/pooled", batch, self.model.pooled_width)
            added = {"text_embeds": pooled, "time_ids": torch.tensor(sizes)}
        wanted = unet(**inputs, added_cond_kwargs=added).sample
        self.compare("unet", inputs | added, {"sample": wanted}, *arguments)

    def unet_with_guidance(self) -> None:
        """Compare the model's UNet given a guidance embedding, as a second folder."""
        dim = self.rng.choice((32, 33, 256))
        student = fill_parameters(with_guidance(self.model.unet.config, dim), f"{self.seed}/student")
        folder = self.model.folder / "student" / "unet"
        student.save_pretrained(folder)
        self.unet(student, "--unet", str(folder))

    @torch.no_grad()
    def vae(self) -> None:
        """Compare encoding and decoding."""
        vae, label = self.model.parts["vae"], f"{self.seed}/vae"
        scale = 2 ** (len(vae.config.block_out_channels) - 1)
        height, width = (scale * self.rng.randint(2, 5) for _ in range(2))
        pixels = uniform(f"{label}/pixels", -1, 1, self.rng.randint(1, 2), 3, height, width)
        posterior = vae.encode(pixels).latent_dist
        wanted = {"mean": posterior.mean, "logvar": posterior.logvar}
        self.compare("vae_encode", {"pixels": pixels}, wanted)
        latents = normal(f"{label}/latents", 1, 4, self.rng.randint(3, 9), self.rng.randint(3, 9))
        self.compare("vae_decode", {"latents": latents}, {"pixels": vae.decode(latents).sample})

    @torch.no_grad()
    def text(self) -> None:
        """Compare tokenizers and text encoders."""
        texts = ["", *(text(self.rng) for _ in range(5))]
        for name, tokenizer in self.model.tokenizers.items():
            length = {"padding": "max_length", "max_length": 77, "truncation": True}
            ids = tokenizer(texts, **length, return_tensors="pt").input_ids
            arguments = [f"--text={one}" for one in texts]
            self.compare(name, {}, {"input_ids": ids}, *arguments, exact=True)
            part = name.replace("tokenizer", "text_encoder")
            found = self.model.parts[part](ids, output_hidden_states=True)
            wanted = {
                "last_hidden_state": found.last_hidden_state,
                "penultimate_hidden_state": found.hidden_states[-2],
            }
            if part == "text_encoder_2":
                wanted["text_embeds"] = found.text_embeds
            self.compare(part, {"input_ids": ids}, wanted)

    def all(self) -> None:
        """Run every check."""
        self.unet(self.model.unet)
        self.unet_with_guidance()
        self.vae()
        self.text()
