//! The sentence for a scene, and the words of all sentences.

use super::scene::{BackgroundColour, Colour, Object, ObjectSize, Pattern, Relation, Scene, Shape};

/// `a small red circle left of a large blue ring on a striped grey background`.
pub fn caption(scene: &Scene) -> String {
    let object = |o: &Object| format!("a {} {} {}", o.size.words(), o.colour.words(), o.shape.words());
    let [first, second] = &scene.objects;
    format!(
        "{} {} {} on a {} {} background",
        object(first),
        scene.relation.words(),
        object(second),
        scene.background.pattern.words(),
        scene.background.colour.words()
    )
}

/// Every word that a caption can hold, each once, in a fixed order.
pub fn words() -> Vec<&'static str> {
    let values = std::iter::empty()
        .chain(["a"])
        .chain(ObjectSize::ALL.iter().map(|v| v.words()))
        .chain(Colour::ALL.iter().map(|v| v.words()))
        .chain(Shape::ALL.iter().map(|v| v.words()))
        .chain(Relation::ALL.iter().flat_map(|v| v.words().split(' ')))
        .chain(["on"])
        .chain(Pattern::ALL.iter().map(|v| v.words()))
        .chain(BackgroundColour::ALL.iter().map(|v| v.words()))
        .chain(["background"]);
    let mut words = Vec::new();
    for word in values {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_use_the_listed_words_only() {
        let words = words();
        assert_eq!(words.len(), 29);
        for number in 0..200 {
            let caption = caption(&Scene::draw(5, number));
            assert!((14..=15).contains(&caption.split(' ').count()), "{caption}");
            assert!(caption.split(' ').all(|word| words.contains(&word)), "{caption}");
        }
    }
}
