"""Step times of many devices on paper: docs/scaling.md's tables, from FLOPs, bytes and link speeds.

    python tools/reference/scaling.py

Torch counts the FLOPs. Nothing is computed and nothing is downloaded: the networks are diffusers' classes with
the published configurations, on torch's meta device. docs/scaling.md says where each constant here comes from.
"""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

# One H200: bf16 without sparsity, HBM, NVLink one way. Its share of the network between machines, one way.
FLOPS = 989e12
HBM = 4.8e12
NVLINK = 450e9
NIC = 50e9
# What is reached of these in practice, assumed.
UTILISATION = 0.40
OF_HBM = 0.70
OF_LINKS = 0.70
# Bytes of memory that an update reads and writes for each trained number, by operator. Sums: the bucket is
# cleared (4), a bf16 gradient added (10), the norm read (4). The rest, which --zero 1 divides: gradients
# scaled (8), AdamW (28), the copy (6). In full runs the average (12) and its copy (6).
SUMS = 4 + 10 + 4
DESCENT = {"full": 8 + 28 + 6 + 12 + 6, "LoRA": 8 + 28 + 6}
PER_MACHINE = 8
RANK = 64
T = 1e12


@dataclass
class Model:
    """A UNet and VAE with what they are given for one sample."""

    name: str
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    latents: int
    width: int
    batch: int
    # How fast its VAE computes, as a share of bf16: SDXL's is in f32, whose convolutions cuDNN does in TF32.
    vae_rate: float
    added: dict[str, torch.Tensor] | None = None

    def predict(self, graph: bool) -> torch.Tensor:
        """Run the UNet on one sample."""
        sample = torch.zeros(1, 4, self.latents, self.latents, device="meta", requires_grad=graph)
        prompt = torch.zeros(1, 77, self.width, device="meta")
        given = {"added_cond_kwargs": self.added} if self.added else {}
        return self.unet(sample, torch.zeros(1, device="meta"), prompt, **given).sample


def sd15() -> Model:
    """Stable Diffusion 1.5 at 512 pixels."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        vae = vae_of(512)
    return Model("SD 1.5, 512", unet, vae, 64, 768, 12, 1.0)


def sdxl() -> Model:
    """SDXL at 1024 pixels."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        vae = vae_of(1024)
        added = {"text_embeds": torch.zeros(1, 1280), "time_ids": torch.zeros(1, 6)}
    return Model("SDXL, 1024", unet, vae, 128, 2048, 12, 0.5, added)


def vae_of(side: int) -> AutoencoderKL:
    """Return the VAE of both families, for pictures of this side."""
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=side,
    )


@dataclass
class Counts:
    """FLOPs of one sample, and numbers."""

    forward: float
    # The way back with gradients of weights and activations, and of activations alone.
    backward: float
    backward_activations: float
    vae: float
    adapter: float
    parameters: int
    adapters: int


def count(model: Model) -> Counts:
    """Count a model's FLOPs (two a multiplication with its addition) and parameters."""

    def flops(run) -> float:
        with FlopCounterMode(display=False) as counter:
            run()
        return float(counter.get_total_flops())

    model.unet.requires_grad_(False)
    with torch.no_grad():
        forward = flops(lambda: model.predict(False))
        side = 8 * model.latents
        vae = flops(lambda: model.vae.encode(torch.zeros(1, 3, side, side, device="meta")))
    activations = flops(lambda: model.predict(True).sum().backward()) - forward
    model.unet.requires_grad_(True)
    backward = flops(lambda: model.predict(False).sum().backward()) - forward
    # Adapters on all linear maps and convolutions of the blocks.
    adapters, adapter = 0, 0.0
    places: list[tuple[int, float]] = []

    def note(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        weight = module.weight
        numbers = RANK * (weight[0].numel() + weight.shape[0])
        positions = output.numel() // weight.shape[0]
        places.append((numbers, 2.0 * numbers * positions))

    hooks = [
        module.register_forward_hook(note)
        for name, module in model.unet.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
        and name.startswith(("down_blocks", "mid_block", "up_blocks"))
    ]
    with torch.no_grad():
        model.predict(False)
    for hook in hooks:
        hook.remove()
    for numbers, cost in places:
        adapters += numbers
        adapter += cost
    parameters = sum(weight.numel() for weight in model.unet.parameters())
    return Counts(forward, backward, activations, vae, adapter, parameters, adapters)


def all_reduce(size: float, devices: int) -> float:
    """Seconds of a sum of so many bytes over devices: within machines, then between them a part each."""
    within = min(devices, PER_MACHINE)
    machines = devices // within
    time = 2 * (within - 1) / within * size / (NVLINK * OF_LINKS)
    return time + 2 * (machines - 1) / machines * (size / within) / (NIC * OF_LINKS)


def all_gather(size: float, devices: int) -> float:
    """Seconds until all have all of it."""
    return all_reduce(size, devices) / 2


def main() -> None:
    """Print the tables."""
    print("| model | F | F back | back, activations only | V | P | A | adapters, forward |")
    models = [(model, count(model)) for model in (sd15(), sdxl())]
    for model, c in models:
        flops = [f"{number / T:.3f}" for number in (c.forward, c.backward, c.backward_activations, c.vae)]
        numbers = [f"{number / 1e6:.1f} M" for number in (c.parameters, c.adapters)]
        print("| " + " | ".join([model.name, *flops, *numbers, f"{c.adapter / T:.3f}"]) + " |")
    columns = ["model", "method", "batch", "devices", "compute", "update", "sum", "hidden", "gather", "step"]
    print("\n| " + " | ".join([*columns, "samples/s", "of one's rate"]) + " |")
    for model, c in models:
        for method in ("full", "LoRA"):
            if method == "full":
                # Teacher twice, target, student there and back.
                sample = 4 * c.forward + c.backward + c.vae / model.vae_rate
                trained = c.parameters
            else:
                # The target is the student: adapters run in it too, and on the way back twice as much.
                sample = 4 * c.forward + c.backward_activations + 4 * c.adapter
                sample += c.vae / model.vae_rate
                trained = c.adapters
            compute = model.batch * sample / (FLOPS * UTILISATION)
            back = model.batch * (c.backward if method == "full" else c.backward_activations)
            hidden = back / (FLOPS * UTILISATION)
            passing = trained / (HBM * OF_HBM)
            sums, descent = SUMS * passing, DESCENT[method] * passing
            alone = compute + sums + descent
            for devices in (1, 8, 64):
                reduce = all_reduce(4 * trained, devices)
                copies = (4 if method == "full" else 2) * trained
                for zero in (False, True) if devices > 1 else (False,):
                    update = sums + (descent / devices if zero else descent)
                    gather = all_gather(copies, devices) if zero else 0.0
                    step = compute + update + max(0.0, reduce - hidden) + gather
                    times = [compute, update, reduce, hidden, gather, step]
                    row = [
                        model.name,
                        method + (", --zero 1" if zero else ""),
                        f"{model.batch}",
                        f"{devices}",
                    ]
                    row += [f"{1e3 * time:.1f}" if time < 0.1 else f"{1e3 * time:.0f}" for time in times]
                    row += [f"{devices * model.batch / step:.0f}", f"{100 * alone / step:.1f} %"]
                    print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
