//! Signed distances to the objects' edges: negative inside, in pixels.

use super::scene::Shape;

/// The hole of a ring, as a share of its radius.
const HOLE: f32 = 0.42;
/// Half the width of a cross's bars, as a share of its radius.
const BAR: f32 = 0.4;
/// Half the side of a square, as a share of the radius: a square looks larger than a disc as wide.
const SQUARE: f32 = 0.9;

/// The distances from a point to an object's edges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Distances {
    /// To the object's edge.
    pub(super) edge: f32,
    /// To the edge that carries the dark outline: all of it but the hole of a ring, which would otherwise
    /// leave small rings no colour.
    pub(super) outlined: f32,
}

/// The distances of `(x, y)`, seen from the object's middle, for an object of this radius.
pub(super) fn distances(shape: Shape, x: f32, y: f32, radius: f32) -> Distances {
    let outlined = match shape {
        Shape::Circle | Shape::Ring => x.hypot(y) - radius,
        Shape::Square => rectangle(x, y, SQUARE * radius, SQUARE * radius),
        Shape::Triangle => triangle(x, y, radius),
        Shape::Cross => rectangle(x, y, radius, BAR * radius).min(rectangle(x, y, BAR * radius, radius)),
    };
    let edge = match shape {
        Shape::Ring => outlined.max(HOLE * radius - x.hypot(y)),
        _ => outlined,
    };
    Distances { edge, outlined }
}

/// An upright rectangle by its half width and half height.
fn rectangle(x: f32, y: f32, half_width: f32, half_height: f32) -> f32 {
    let (dx, dy) = (x.abs() - half_width, y.abs() - half_height);
    dx.max(0.0).hypot(dy.max(0.0)) + dx.max(dy).min(0.0)
}

/// An equilateral triangle of side `2 radius`, its bounding box around the middle: the intersection of
/// three half planes (beyond its corners the distance is a little short, which keeps them sharp).
fn triangle(x: f32, y: f32, radius: f32) -> f32 {
    let (sin, cos) = (0.5, 3.0f32.sqrt() / 2.0);
    let base = y - cos * radius;
    let sides = cos * x.abs() - sin * y - sin * cos * radius;
    base.max(sides)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_lie_where_the_shapes_say() {
        let at = |shape, x, y| distances(shape, x, y, 10.0).edge;
        let close = |a: f32, b: f32| assert!((a - b).abs() < 1e-4, "{a} {b}");
        close(at(Shape::Circle, 0.0, 0.0), -10.0);
        close(at(Shape::Circle, 12.0, 0.0), 2.0);
        close(at(Shape::Ring, 0.0, 0.0), 4.2);
        close(at(Shape::Ring, 4.2, 0.0), 0.0);
        close(at(Shape::Square, 9.0, 3.0), 0.0);
        close(at(Shape::Cross, 10.0, 0.0), 0.0);
        assert!(at(Shape::Cross, 6.0, 6.0) > 0.0);
        close(at(Shape::Triangle, 0.0, -8.660254), 0.0);
        close(at(Shape::Triangle, 10.0, 8.660254), 0.0);
        assert!(at(Shape::Triangle, 6.0, -4.0) > 0.0);
    }
}
