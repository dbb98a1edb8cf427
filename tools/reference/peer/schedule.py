"""Noise schedule, parameterisations, boundary scalings and the DDIM solver of the reference, in f32."""

import math
from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler

SIGMA_DATA = 0.5
CONFIG_KEYS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)


def per_sample(values: torch.Tensor) -> torch.Tensor:
    """Give a vector [B] the shape [B, 1, 1, 1]."""
    return values.reshape(-1, 1, 1, 1)


@dataclass
class Schedule:
    """The tables of a DDPM schedule and the type of prediction that its networks make."""

    alphas_cumprod: torch.Tensor
    prediction_type: str

    @classmethod
    def from_config(cls, config: dict) -> "Schedule":
        """Build the tables from a scheduler_config.json, of which only the keys of a noise schedule count."""
        ddpm = DDPMScheduler(**{key: config[key] for key in CONFIG_KEYS if key in config})
        return cls(ddpm.alphas_cumprod, ddpm.config.prediction_type)

    def alpha(self, t: torch.Tensor) -> torch.Tensor:
        """Return A_t = sqrt(abar_t), [B, 1, 1, 1]."""
        return per_sample(self.alphas_cumprod.sqrt()[t])

    def sigma(self, t: torch.Tensor) -> torch.Tensor:
        """Return S_t = sqrt(1 - abar_t), [B, 1, 1, 1]."""
        return per_sample((1 - self.alphas_cumprod).sqrt()[t])

    def add_noise(self, x: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Diffuse x to timestep t."""
        return self.alpha(t) * x + self.sigma(t) * noise

    def x0(self, output: torch.Tensor, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Return the clean latents that a network's output stands for."""
        match self.prediction_type:
            case "epsilon":
                return (z - self.sigma(t) * output) / self.alpha(t)
            case "sample":
                return output
            case "v_prediction":
                return self.alpha(t) * z - self.sigma(t) * output
        raise ValueError(self.prediction_type)

    def eps(self, output: torch.Tensor, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Return the noise that a network's output stands for."""
        match self.prediction_type:
            case "epsilon":
                return output
            case "sample":
                return (z - self.alpha(t) * output) / self.sigma(t)
            case "v_prediction":
                return self.alpha(t) * output + self.sigma(t) * z
        raise ValueError(self.prediction_type)


@dataclass
class DdimSolver:
    """The N points between which the teacher takes its steps."""

    timesteps: torch.Tensor
    alphas_prev: torch.Tensor
    skip: int

    @classmethod
    def of(cls, schedule: Schedule, count: int) -> "DdimSolver":
        """Place `count` points at (i + 1) k - 1; the one before the first is timestep 0."""
        skip = len(schedule.alphas_cumprod) // count
        timesteps = torch.arange(1, count + 1) * skip - 1
        previous = torch.cat([torch.zeros(1, dtype=torch.int64), timesteps[:-1]])
        return cls(timesteps, schedule.alphas_cumprod[previous], skip)

    def ends(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the timesteps where step `index` starts and ends."""
        start = self.timesteps[index]
        return start, (start - self.skip).clamp(min=0)

    def step(self, x0: torch.Tensor, eps: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Take the DDIM step (eta 0) to the point before `index`."""
        alpha_prev = per_sample(self.alphas_prev[index])
        return alpha_prev.sqrt() * x0 + (1 - alpha_prev).sqrt() * eps


def boundary_scalings(t: torch.Tensor, scaling: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return c_skip and c_out at timesteps t, [B, 1, 1, 1]."""
    scaled = scaling * t
    c_skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
    c_out = scaled / (scaled**2 + SIGMA_DATA**2) ** 0.5
    return per_sample(c_skip), per_sample(c_out)


def guidance_embedding(w: torch.Tensor, dim: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Embed guidance weights [B] as [B, dim]: sines first, then cosines, of 1000 w at h frequencies."""
    half = dim // 2
    step = torch.tensor(math.log(10000.0), dtype=dtype) / (half - 1)
    frequencies = torch.exp(torch.arange(half, dtype=dtype) * -step)
    angles = (1000.0 * w.to(dtype))[:, None] * frequencies
    embedding = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.nn.functional.pad(embedding, (0, dim % 2))
