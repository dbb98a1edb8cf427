//! The checker against pictures whose scenes are known, clean and spoilt.

use super::*;
use crate::world::{SIDE, render};

fn drawn(numbers: std::ops::Range<u64>) -> Vec<(Scene, Picture)> {
    numbers
        .map(|n| Scene::draw(11, n))
        .map(|scene| (scene, render(&scene)))
        .collect()
}

fn checker() -> Checker {
    Checker::calibrate(&drawn(0..1200)).unwrap()
}

/// Three by three means and some noise: about what a VAE does.
fn softened(picture: &Picture) -> Picture {
    let colours = picture.colours();
    let at = |x: usize, y: usize, c: usize| colours[y * SIDE + x][c];
    Picture::from_fn(|x, y| {
        let noise = ((x * 7919 + y * 104_729) % 17) as f32 / 17.0 - 0.5;
        [0, 1, 2].map(|c| {
            let (mut sum, mut count) = (0.0, 0.0);
            for row in y.saturating_sub(1)..(y + 2).min(SIDE) {
                for column in x.saturating_sub(1)..(x + 2).min(SIDE) {
                    sum += at(column, row, c);
                    count += 1.0;
                }
            }
            sum / count + 0.06 * noise
        })
    })
}

#[test]
fn real_pictures_are_right() {
    let checker = checker();
    let others = drawn(5000..6000);
    let verdicts: Vec<_> = others.iter().map(|(s, p)| checker.check(s, p)).collect();
    let right: usize = verdicts.iter().map(Verdict::right).sum();
    let all = verdicts.iter().filter(|v| v.all_right()).count();
    assert!(right >= 8990, "{right} of 9000 attributes");
    assert!(all >= 990, "{all} of 1000 pictures");
}

#[test]
fn softened_pictures_are_nearly_as_right() {
    let checker = checker();
    let others = drawn(5000..5500);
    let verdicts = others.iter().map(|(s, p)| checker.check(s, &softened(p)));
    let right: usize = verdicts.map(|v| v.right()).sum();
    assert!(right >= 4410, "{right} of 4500 attributes");
}

#[test]
fn what_is_wrong_with_a_picture_is_what_is_said() {
    let checker = checker();
    for (scene, _) in drawn(7000..7100) {
        let [first, second] = scene.objects;
        let spoilt = |change: &dyn Fn(&mut Scene)| {
            let mut other = scene;
            change(&mut other);
            checker.check(&scene, &render(&other))
        };
        let clean = checker.check(&scene, &render(&scene));
        if !clean.all_right() {
            continue;
        }
        let others = |v: Verdict| v.right() == ATTRIBUTES - 1;
        let pattern = Pattern::ALL[(scene.background.pattern.index() + 1) % 4];
        let v = spoilt(&|s| s.background.pattern = pattern);
        assert!(!v.pattern && others(v), "{scene:?} {v:?}");
        let background = BackgroundColour::ALL[(scene.background.colour.index() + 1) % 4];
        let v = spoilt(&|s| s.background.colour = background);
        assert!(!v.background, "{scene:?} {v:?}");
        // Another colour than either object's, so that no other assignment helps.
        let colour = Colour::ALL
            .iter()
            .copied()
            .find(|&c| c != first.colour && c != second.colour)
            .unwrap();
        let v = spoilt(&|s| s.objects[0].colour = colour);
        assert!(!v.colour[0] || !v.colour[1], "{scene:?} {v:?}");
        let v = spoilt(&|s| s.objects.iter_mut().for_each(|o| o.colour = colour));
        assert!(!v.colour[0] && !v.colour[1], "{scene:?} {v:?}");
    }
}

#[test]
fn swapped_places_break_the_relation_alone() {
    let checker = checker();
    let distinct = drawn(8000..8200)
        .into_iter()
        .filter(|(s, _)| s.objects[0].colour != s.objects[1].colour)
        .filter(|(s, _)| s.objects[0].shape != s.objects[1].shape);
    let mut checked = 0;
    for (scene, _) in distinct {
        let mut mirrored = scene;
        for object in &mut mirrored.objects {
            object.centre = object.centre.map(|c| SIDE as f32 - c);
        }
        let verdict = checker.check(&scene, &render(&mirrored));
        assert!(!verdict.relation && verdict.right() >= 7, "{scene:?} {verdict:?}");
        checked += 1;
    }
    assert!(checked > 100);
}

#[test]
fn an_empty_picture_shows_no_object() {
    let verdict = checker().check(&Scene::draw(0, 0), &Picture::from_fn(|_, _| [0.68; 3]));
    assert_eq!((verdict.size, verdict.colour, verdict.shape), Default::default());
    assert!(!verdict.relation);
}
