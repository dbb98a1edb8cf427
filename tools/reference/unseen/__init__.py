"""Parity of `fewstep debug` with diffusers on models and tensors drawn for the occasion."""
