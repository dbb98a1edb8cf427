//! What a picture of the small world shows: what its caption says, and what it leaves open.

use fewstep_draw::{Purpose, Stream};

use super::picture::SIDE;

/// An attribute with a fixed list of values, each one word of a caption.
macro_rules! attribute {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$value_doc])* $value),+
        }

        impl $name {
            /// Every value, in the order of their numbers.
            pub const ALL: &[$name] = &[$($name::$value),+];

            /// The words of a caption for it.
            pub fn words(self) -> &'static str {
                match self {
                    $($name::$value => $word),+
                }
            }

            /// Its place in [`Self::ALL`].
            pub fn index(self) -> usize {
                self as usize
            }

            fn draw(stream: &mut Stream) -> Self {
                Self::ALL[stream.below(Self::ALL.len() as u64) as usize]
            }
        }
    };
}

attribute! {
    /// How large an object is.
    ObjectSize {
        /// Radius 7 to 9 pixels.
        Small = "small",
        /// Radius 12 to 14 pixels.
        Large = "large",
    }
}

attribute! {
    /// An object's colour.
    Colour {
        /// Red.
        Red = "red",
        /// Green.
        Green = "green",
        /// Blue.
        Blue = "blue",
        /// Yellow.
        Yellow = "yellow",
        /// Purple.
        Purple = "purple",
        /// Cyan.
        Cyan = "cyan",
    }
}

attribute! {
    /// An object's outline.
    Shape {
        /// A disc.
        Circle = "circle",
        /// Sides along the axes.
        Square = "square",
        /// Equilateral, one corner up.
        Triangle = "triangle",
        /// Two bars along the axes.
        Cross = "cross",
        /// A disc with a round hole.
        Ring = "ring",
    }
}

attribute! {
    /// Where the first object is, seen from the second.
    Relation {
        /// In the left half; the second in the right half.
        LeftOf = "left of",
        /// In the right half; the second in the left half.
        RightOf = "right of",
        /// In the upper half; the second in the lower half.
        Above = "above",
        /// In the lower half; the second in the upper half.
        Below = "below",
    }
}

attribute! {
    /// What repeats on the background.
    Pattern {
        /// Nothing.
        Plain = "plain",
        /// Parallel stripes at any angle.
        Striped = "striped",
        /// A chessboard along the axes.
        Checked = "checked",
        /// Dots on a square lattice.
        Dotted = "dotted",
    }
}

attribute! {
    /// The background's colour: paler than any object's.
    BackgroundColour {
        /// Grey.
        Grey = "grey",
        /// Pink.
        Pink = "pink",
        /// Tan.
        Tan = "tan",
        /// Mint.
        Mint = "mint",
    }
}

/// One object. Lengths are pixels, angles radians; x grows to the right, y downwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Object {
    /// In the caption.
    pub size: ObjectSize,
    /// In the caption.
    pub colour: Colour,
    /// In the caption.
    pub shape: Shape,
    /// Its middle.
    pub centre: [f32; 2],
    /// Half its width.
    pub radius: f32,
    /// Where its light comes from.
    pub light_angle: f32,
}

/// What lies behind the objects.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Background {
    /// In the caption.
    pub pattern: Pattern,
    /// In the caption.
    pub colour: BackgroundColour,
    /// The direction across the stripes.
    pub angle: f32,
    /// The length after which the pattern repeats.
    pub period: f32,
    /// Where the pattern starts.
    pub phase: [f32; 2],
    /// How the light grows from the middle to the right and lower border, as a share.
    pub light: [f32; 2],
}

/// A whole scene: nine attributes that its caption names, and the rest, which it leaves open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scene {
    /// The first and the second object of the caption. They never overlap.
    pub objects: [Object; 2],
    /// Where the first is, seen from the second.
    pub relation: Relation,
    /// What lies behind them.
    pub background: Background,
}

/// Background between an object and the middle line or the border, at least.
const MARGIN: f64 = 1.5;

impl Scene {
    /// The scene of this number in the world of this seed.
    pub fn draw(seed: u64, number: u64) -> Self {
        let s = &mut Stream::new(seed, Purpose::World, number);
        let relation = Relation::draw(s);
        let objects = [Place::First, Place::Second].map(|place| Object::draw(s, relation, place));
        let background = Background {
            pattern: Pattern::draw(s),
            colour: BackgroundColour::draw(s),
            angle: between(s, 0.0, std::f64::consts::PI),
            period: between(s, 10.0, 14.0),
            phase: [between(s, 0.0, 14.0), between(s, 0.0, 14.0)],
            light: [between(s, -0.1, 0.1), between(s, -0.1, 0.1)],
        };
        Scene {
            objects,
            relation,
            background,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    First,
    Second,
}

impl Object {
    fn draw(s: &mut Stream, relation: Relation, place: Place) -> Self {
        let size = ObjectSize::draw(s);
        let radius = match size {
            ObjectSize::Small => between(s, 7.0, 9.0),
            ObjectSize::Large => between(s, 12.0, 14.0),
        };
        let side = SIDE as f64;
        let nearest = f64::from(radius) + MARGIN;
        let free = between(s, nearest, side - nearest);
        let lower = between(s, nearest, side / 2.0 - nearest + 0.5);
        let first_is_lower = matches!(relation, Relation::LeftOf | Relation::Above);
        let bound = match (place == Place::First) == first_is_lower {
            true => lower,
            false => SIDE as f32 - lower,
        };
        Object {
            size,
            colour: Colour::draw(s),
            shape: Shape::draw(s),
            centre: match relation {
                Relation::LeftOf | Relation::RightOf => [bound, free],
                Relation::Above | Relation::Below => [free, bound],
            },
            radius,
            light_angle: between(s, 0.0, std::f64::consts::TAU),
        }
    }
}

fn between(s: &mut Stream, low: f64, high: f64) -> f32 {
    (low + (high - low) * s.uniform()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_depends_on_its_seed_and_number_alone() {
        assert_eq!(Scene::draw(1, 2), Scene::draw(1, 2));
        assert_ne!(Scene::draw(1, 2), Scene::draw(1, 3));
        assert_ne!(Scene::draw(1, 2), Scene::draw(2, 2));
    }

    #[test]
    fn objects_lie_inside_and_apart_as_their_relation_says() {
        for number in 0..2000 {
            let Scene {
                objects, relation, ..
            } = Scene::draw(3, number);
            for object in objects {
                for c in object.centre {
                    assert!(c - object.radius >= 1.0 && c + object.radius <= SIDE as f32 - 1.0);
                }
            }
            let [a, b] = objects;
            let (axis, sign) = match relation {
                Relation::LeftOf => (0, 1.0),
                Relation::RightOf => (0, -1.0),
                Relation::Above => (1, 1.0),
                Relation::Below => (1, -1.0),
            };
            let gap = sign * (b.centre[axis] - a.centre[axis]) - a.radius - b.radius;
            assert!(gap >= 1.99, "{number}: {gap}");
        }
    }

    #[test]
    fn every_value_turns_up_equally_often() {
        let mut shapes = [0usize; 5];
        let mut patterns = [0usize; 4];
        for number in 0..4000 {
            let scene = Scene::draw(0, number);
            shapes[scene.objects[1].shape.index()] += 1;
            patterns[scene.background.pattern.index()] += 1;
        }
        assert!(shapes.iter().all(|n| (700..900).contains(n)), "{shapes:?}");
        assert!(patterns.iter().all(|n| (900..1100).contains(n)), "{patterns:?}");
    }
}
