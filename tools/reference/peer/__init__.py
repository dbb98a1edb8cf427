"""The reference's training step in its own formulas, in f32, around diffusers' own networks."""
