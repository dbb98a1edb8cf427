"""Checks of LoRA files: loaded by diffusers, text encoders, and key lists at full size."""
