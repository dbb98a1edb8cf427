//! Latent consistency distillation: the step, and the training around it.
