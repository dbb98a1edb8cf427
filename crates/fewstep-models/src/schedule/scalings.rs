//! The boundary condition of a consistency function, f(z, t) = c_skip(t) z + c_out(t) x(z, t), which makes
//! f(z, 0) = z whatever the model says (equation 9 of the LCM paper; Luo et al., 2023).

use tch::{Kind, Tensor};

/// The standard deviation of the data that the scalings assume.
pub const SIGMA_DATA: f64 = 0.5;

/// c_skip and c_out, each `[B, 1, 1, 1]` f32, at timesteps `t` `[B]` multiplied with `timestep_scaling`.
///
/// c_skip = sd^2 / (u^2 + sd^2) and c_out = u / sqrt(u^2 + sd^2) with u = `timestep_scaling` t, sd =
/// [`SIGMA_DATA`]. At t = 0 they are exactly 1 and 0.
pub fn boundary_scalings(t: &Tensor, timestep_scaling: f64) -> (Tensor, Tensor) {
    let u = t.to_kind(Kind::Float).view([-1, 1, 1, 1]) * timestep_scaling;
    let variance = SIGMA_DATA * SIGMA_DATA;
    let sum = &u * &u + variance;
    let c_skip = sum.reciprocal() * variance;
    (c_skip, u / sum.sqrt())
}

/// c_skip and c_out at one timestep: the same f32 operations as [`boundary_scalings`].
pub fn boundary_scalings_at(t: i64, timestep_scaling: f64) -> (f32, f32) {
    let u = t as f32 * timestep_scaling as f32;
    let variance = (SIGMA_DATA * SIGMA_DATA) as f32;
    let sum = u * u + variance;
    (sum.recip() * variance, u / sum.sqrt())
}
