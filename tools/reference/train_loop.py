"""The reference's distillation as a plain loop, for timing fewstep against it on the same work.

    python tools/reference/train_loop.py --pretrained_teacher_model DIR --train_shards a.tar b.tar

It does a step as the reference does: captions and pixels encoded on the fly, the student first, then the
teacher twice and a target pass for every sample, f32 weights under autocast, AdamW, and with `--method full`
a moving average of all weights; with `--method lora` student and teacher are two networks and the target is
the student. The flags have the reference's names. Each step's loss, seconds and end (Unix time) are a line of
`--output`; their median ends the run.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from peer.data import batches
from peer.loop import Settings, train
from peer.quiet import hush
from peer.step import Adapters, Distiller, Inputs, Objective, make_lora_student, make_student

DTYPES = {"no": torch.float32, "bf16": torch.bfloat16}


class Conditioner:
    """The frozen encoders, in the compute dtype, and the draws of a step."""

    def __init__(self, teacher: StableDiffusionPipeline, dtype: torch.dtype, goal: Objective) -> None:
        """Move the encoders and encode the empty caption once."""
        self.vae, self.text_encoder = teacher.vae.to(dtype), teacher.text_encoder.to(dtype)
        self.tokenizer, self.dtype, self.goal = teacher.tokenizer, dtype, goal
        self.uncond = self.encode_text([""])

    @torch.no_grad()
    def encode_text(self, captions: list[str]) -> torch.Tensor:
        """Return the last hidden states in f32."""
        length = {"padding": "max_length", "max_length": self.tokenizer.model_max_length, "truncation": True}
        ids = self.tokenizer(captions, **length, return_tensors="pt").input_ids
        return self.text_encoder(ids)[0].float()

    @torch.no_grad()
    def inputs(self, pixels: torch.Tensor, captions: list[str], w_min: float, w_max: float) -> Inputs:
        """Encode one batch and draw the noise, index and guidance weight."""
        posterior = self.vae.encode(pixels.to(self.dtype)).latent_dist
        latents = (posterior.sample() * self.vae.config.scaling_factor).float()
        count = len(captions)
        index = torch.randint(0, self.goal.num_ddim_timesteps, (count,))
        return Inputs(
            latents=latents,
            noise=torch.randn_like(latents),
            index=index,
            w=(w_min + (w_max - w_min) * torch.rand(count)),
            prompt_embeds=self.encode_text(captions),
            uncond_prompt_embeds=self.uncond,
        )


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pretrained_teacher_model", type=Path, required=True)
    parser.add_argument("--train_shards", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, help="a JSON line for each step; none when left out")
    parser.add_argument("--method", choices=("full", "lora"), default="full")
    parser.add_argument("--cast_teacher_unet", action="store_true", help="the teacher in the compute dtype")
    parser.add_argument("--lora_rank", type=int, default=64)
    parser.add_argument("--lora_alpha", type=float, default=64.0)
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--train_batch_size", type=int, default=16)
    parser.add_argument("--max_train_steps", type=int, default=20)
    parser.add_argument("--mixed_precision", choices=DTYPES, default="no")
    parser.add_argument("--learning_rate", type=float, default=1e-4)
    parser.add_argument("--loss_type", choices=("l2", "huber"), default="l2")
    parser.add_argument("--huber_c", type=float, default=0.001)
    parser.add_argument("--w_min", type=float, default=5.0)
    parser.add_argument("--w_max", type=float, default=15.0)
    parser.add_argument("--num_ddim_timesteps", type=int, default=50)
    parser.add_argument("--ema_decay", type=float, default=0.95)
    parser.add_argument("--unet_time_cond_proj_dim", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="torch's threads; all cores when left out")
    return parser.parse_args()


def main() -> None:
    """Train, and print how long a step takes."""
    options = parse()
    hush()
    torch.manual_seed(options.seed)
    if options.threads:
        torch.set_num_threads(options.threads)
    dtype = DTYPES[options.mixed_precision]
    teacher = StableDiffusionPipeline.from_pretrained(options.pretrained_teacher_model, safety_checker=None)
    goal = Objective(options.num_ddim_timesteps, 10.0, options.loss_type, options.huber_c)
    if options.method == "lora":
        student = make_lora_student(teacher.unet, Adapters(options.lora_rank, options.lora_alpha))
    else:
        student = make_student(teacher.unet, options.unet_time_cond_proj_dim)
    if options.cast_teacher_unet:
        teacher.unet.to(dtype)
    distiller = Distiller(teacher.scheduler.config, teacher.unet, student, goal)
    conditioner = Conditioner(teacher, dtype, goal)
    stream = batches(options.train_shards, options.train_batch_size, options.resolution, options.seed)
    times: list[float] = []
    ends: list[float] = []

    def note() -> None:
        times.append(time.perf_counter())
        ends.append(time.time())

    def prepared() -> Iterator[Inputs]:
        for _ in range(options.max_train_steps):
            note()
            yield conditioner.inputs(*next(stream), options.w_min, options.w_max)
        note()

    settings = Settings(learning_rate=options.learning_rate, ema_decay=options.ema_decay)
    precision = partial(torch.autocast, "cpu", dtype=torch.bfloat16, enabled=dtype != torch.float32)
    history = train(distiller, prepared(), settings, precision)
    seconds = [end - start for start, end in zip(times, times[1:], strict=False)]
    measured = zip(history, seconds, ends[1:], strict=True)
    lines = [entry | {"seconds": spent, "time": end} for entry, spent, end in measured]
    if options.output:
        options.output.write_text("".join(json.dumps(line) + "\n" for line in lines))
    median = statistics.median(seconds[1:] or seconds)
    rate = options.train_batch_size / median
    last = history[-1]["loss"]
    print(f"{len(history)} steps, median {median:.3f} s a step, {rate:.2f} samples/s, last loss {last:.5f}")


if __name__ == "__main__":
    main()
