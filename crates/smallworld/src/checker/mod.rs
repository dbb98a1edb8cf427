//! Says how much of a caption a picture shows, without a network: it looks for the two objects and the
//! background, and compares what it sees with the nine attributes of the caption.
//!
//! It sees colours by hue, and learns the outlines of shapes, the sizes and the looks of patterns from
//! example pictures ([`Checker::calibrate`]). It knows nothing of how pictures are made.

mod backdrop;
mod components;
mod objects;

use anyhow::Result;

use crate::world::{BackgroundColour, Colour, ObjectSize, Pattern, Picture, Relation, Scene, Shape};
use backdrop::PatternModel;
use objects::{Blob, ShapeModel};

/// How many attributes a caption has.
pub const ATTRIBUTES: usize = 9;

/// The centres of two related objects differ by more pixels than this along the relation's axis.
const LEAST_OFFSET: f32 = 8.0;

/// What an example of each kind looks like.
#[derive(Debug, Clone)]
pub struct Checker {
    shapes: ShapeModel,
    patterns: PatternModel,
}

/// An object that was found in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeenObject {
    /// How large it looks.
    pub size: ObjectSize,
    /// Its hue.
    pub colour: Colour,
    /// The outline it is most like.
    pub shape: Shape,
    /// The middle of its box, in pixels.
    pub centre: [f32; 2],
}

/// What a picture shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The two largest objects, or fewer.
    pub objects: Vec<SeenObject>,
    /// The pattern behind them; nothing where they leave too little to see.
    pub pattern: Option<Pattern>,
    /// The colour behind them; nothing where they leave too little to see.
    pub background: Option<BackgroundColour>,
}

/// Which attributes of a caption a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict {
    /// The sizes of the first and the second object.
    pub size: [bool; 2],
    /// Their colours.
    pub colour: [bool; 2],
    /// Their shapes.
    pub shape: [bool; 2],
    /// How they lie to each other.
    pub relation: bool,
    /// The background's pattern.
    pub pattern: bool,
    /// The background's colour.
    pub background: bool,
}

impl Verdict {
    /// How many of the [`ATTRIBUTES`] are right.
    pub fn right(&self) -> usize {
        let objects = [self.size, self.colour, self.shape].concat();
        let rest = [self.relation, self.pattern, self.background];
        objects.iter().chain(&rest).filter(|&&right| right).count()
    }

    /// Whether every attribute is right.
    pub fn all_right(&self) -> bool {
        self.right() == ATTRIBUTES
    }
}

impl Checker {
    /// Learns from pictures of known scenes: about a thousand of them, and best some that have been through
    /// a VAE as well, so that its blur is not taken for another pattern.
    ///
    /// # Errors
    /// A shape, size or pattern that no example shows.
    pub fn calibrate(examples: &[(Scene, Picture)]) -> Result<Self> {
        let mut found = Vec::new();
        let mut looks = Vec::new();
        for (scene, picture) in examples {
            let view = View::new(picture);
            for blob in &view.blobs {
                let nearest = scene
                    .objects
                    .iter()
                    .filter(|o| o.colour == blob.colour)
                    .min_by(|a, b| {
                        distance(a.centre, blob.centre()).total_cmp(&distance(b.centre, blob.centre()))
                    });
                found.extend(nearest.map(|object| (object.shape, object.size, blob.clone())));
            }
            looks.extend(view.look.map(|look| (scene.background.pattern, look)));
        }
        Ok(Checker {
            shapes: ShapeModel::calibrate(&found)?,
            patterns: PatternModel::calibrate(&looks)?,
        })
    }

    /// What the picture shows.
    pub fn see(&self, picture: &Picture) -> Seen {
        let view = View::new(picture);
        let object = |blob: &Blob| {
            let shape = self.shapes.shape(blob);
            SeenObject {
                size: self.shapes.size(blob, shape),
                colour: blob.colour,
                shape,
                centre: blob.centre(),
            }
        };
        Seen {
            objects: view.blobs.iter().map(object).collect(),
            pattern: view.look.as_ref().map(|look| self.patterns.pattern(look)),
            background: view.look.as_ref().map(|look| look.colour),
        }
    }

    /// How much of the scene's caption the picture shows.
    pub fn check(&self, scene: &Scene, picture: &Picture) -> Verdict {
        self.see(picture).compare(scene)
    }
}

impl Seen {
    /// Compares with the scene's caption. Which of the seen objects is the caption's first is not written
    /// on it: the assignment that makes more attributes right counts.
    pub fn compare(&self, scene: &Scene) -> Verdict {
        let get = |i: usize| self.objects.get(i);
        let straight = self.compare_objects(scene, [get(0), get(1)]);
        let crossed = self.compare_objects(scene, [get(1), get(0)]);
        if crossed.right() > straight.right() {
            crossed
        } else {
            straight
        }
    }

    fn compare_objects(&self, scene: &Scene, seen: [Option<&SeenObject>; 2]) -> Verdict {
        let each = |same: fn(&SeenObject, &crate::world::Object) -> bool| {
            [0, 1].map(|i| seen[i].is_some_and(|s| same(s, &scene.objects[i])))
        };
        let relation = match seen {
            [Some(first), Some(second)] => related(scene.relation, first.centre, second.centre),
            _ => false,
        };
        Verdict {
            size: each(|s, o| s.size == o.size),
            colour: each(|s, o| s.colour == o.colour),
            shape: each(|s, o| s.shape == o.shape),
            relation,
            pattern: self.pattern == Some(scene.background.pattern),
            background: self.background == Some(scene.background.colour),
        }
    }
}

fn related(relation: Relation, first: [f32; 2], second: [f32; 2]) -> bool {
    let [right, down] = [second[0] - first[0], second[1] - first[1]];
    let offset = match relation {
        Relation::LeftOf => right,
        Relation::RightOf => -right,
        Relation::Above => down,
        Relation::Below => -down,
    };
    offset > LEAST_OFFSET
}

fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// What there is to judge in a picture, before it is judged.
struct View {
    blobs: Vec<Blob>,
    look: Option<backdrop::Look>,
}

impl View {
    fn new(picture: &Picture) -> Self {
        let colours = picture.colours();
        View {
            blobs: objects::two_largest(&colours),
            look: backdrop::Look::new(&colours, &picture.luma()),
        }
    }
}

#[cfg(test)]
mod tests;
