//! A scene's picture: every pixel from the distances of its middle to the edges around it, smoothed over
//! one pixel, so that nothing is sampled more than once.

use super::picture::{Picture, SIDE};
use super::scene::{Background, Object, Pattern, Scene};
use super::shapes::distances;

/// The colours of objects in the order of [`super::Colour::ALL`], before light.
pub const OBJECT_RGB: [[f32; 3]; 6] = [
    [0.84, 0.13, 0.13],
    [0.13, 0.64, 0.17],
    [0.13, 0.27, 0.84],
    [0.85, 0.76, 0.10],
    [0.55, 0.16, 0.74],
    [0.10, 0.73, 0.78],
];
/// The colours of backgrounds in the order of [`super::BackgroundColour::ALL`], before light.
pub const BACKGROUND_RGB: [[f32; 3]; 4] = [
    [0.68, 0.68, 0.68],
    [0.88, 0.66, 0.72],
    [0.80, 0.70, 0.52],
    [0.62, 0.84, 0.71],
];
const OUTLINE_RGB: [f32; 3] = [0.10, 0.09, 0.11];
/// In pixels.
const OUTLINE_WIDTH: f32 = 1.3;
/// How much an object's light grows from its middle to its lit edge, as a share.
const OBJECT_LIGHT: f32 = 0.16;
/// How much darker the pattern is than the background, as a share.
const PATTERN_DEPTH: f32 = 0.24;
/// The radius of a dot, as a share of the period.
const DOT: f32 = 0.27;

/// Draws the scene.
pub fn render(scene: &Scene) -> Picture {
    let background = BackgroundPainter::new(&scene.background);
    Picture::from_fn(|column, row| {
        let (x, y) = (column as f32 + 0.5, row as f32 + 0.5);
        let mut colour = background.colour(x, y);
        for object in &scene.objects {
            let (dx, dy) = (x - object.centre[0], y - object.centre[1]);
            let reach = object.radius + 1.0;
            if dx.abs() < reach && dy.abs() < reach {
                paint_object(object, dx, dy, &mut colour);
            }
        }
        colour
    })
}

fn paint_object(object: &Object, dx: f32, dy: f32, colour: &mut [f32; 3]) {
    let d = distances(object.shape, dx, dy, object.radius);
    let covered = inside(d.edge);
    if covered == 0.0 {
        return;
    }
    let (sin, cos) = object.light_angle.sin_cos();
    let light = 1.0 + OBJECT_LIGHT * (dx * cos + dy * sin) / object.radius;
    let filled = inside(d.outlined + OUTLINE_WIDTH);
    for (c, out) in colour.iter_mut().enumerate() {
        let own = mix(
            OUTLINE_RGB[c],
            OBJECT_RGB[object.colour.index()][c] * light,
            filled,
        );
        *out = mix(*out, own, covered);
    }
}

/// The background with what is the same for all pixels worked out.
struct BackgroundPainter<'a> {
    background: &'a Background,
    across: [f32; 2],
    base: [f32; 3],
}

impl<'a> BackgroundPainter<'a> {
    fn new(background: &'a Background) -> Self {
        let (sin, cos) = background.angle.sin_cos();
        BackgroundPainter {
            background,
            across: [cos, sin],
            base: BACKGROUND_RGB[background.colour.index()],
        }
    }

    fn colour(&self, x: f32, y: f32) -> [f32; 3] {
        let half = SIDE as f32 / 2.0;
        let [right, down] = self.background.light;
        let light = 1.0 + right * (x / half - 1.0) + down * (y / half - 1.0);
        let factor = light * (1.0 - PATTERN_DEPTH * self.pattern(x, y));
        self.base.map(|c| c * factor)
    }

    /// How much of the pixel the pattern covers.
    fn pattern(&self, x: f32, y: f32) -> f32 {
        let Background { period, phase, .. } = *self.background;
        // The distance from the nearest line of a family of parallel lines, one a period.
        let from_line = |u: f32| ((u / period).rem_euclid(1.0) - 0.5).abs() * period;
        let band = |u: f32| inside(from_line(u) - period / 4.0);
        match self.background.pattern {
            Pattern::Plain => 0.0,
            Pattern::Striped => band(x * self.across[0] + y * self.across[1] + phase[0]),
            Pattern::Checked => {
                let (a, b) = (band(x + phase[0]), band(y + phase[1]));
                a * (1.0 - b) + b * (1.0 - a)
            }
            Pattern::Dotted => {
                let from_dot = from_line(x + phase[0]).hypot(from_line(y + phase[1]));
                inside(from_dot - DOT * period)
            }
        }
    }
}

/// How much of a pixel lies inside an edge at this signed distance from its middle.
fn inside(distance: f32) -> f32 {
    (0.5 - distance).clamp(0.0, 1.0)
}

fn mix(from: f32, to: f32, share: f32) -> f32 {
    from + (to - from) * share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Shape;

    #[test]
    fn an_object_has_its_colour_in_its_middle_and_a_dark_outline() {
        let scene = (0..)
            .map(|n| Scene::draw(0, n))
            .find(|s| s.objects[0].shape == Shape::Square)
            .unwrap();
        let picture = render(&scene);
        let object = &scene.objects[0];
        let at = |x: f32, y: f32| picture.colours()[y as usize * SIDE + x as usize];
        let [x, y] = object.centre;
        let want = OBJECT_RGB[object.colour.index()];
        let got = at(x, y);
        assert!(
            (0..3).all(|c| (got[c] - want[c]).abs() < 0.05),
            "{got:?} {want:?}"
        );
        let edge = at(x + 0.9 * object.radius - 0.7, y);
        assert!(edge.iter().all(|&c| c < 0.35), "{edge:?}");
    }

    #[test]
    fn a_picture_is_the_same_every_time() {
        let scene = Scene::draw(9, 1);
        assert_eq!(render(&scene), render(&scene));
    }
}
