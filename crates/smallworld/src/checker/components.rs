//! Connected components of equal labels on the grid of pixels, by union and find.

use crate::world::SIDE;

/// The components of pixels that share a label and touch along a side, as lists of pixel numbers (row by
/// row). Pixels without a label belong to none.
pub(super) fn components<L: Copy + PartialEq>(labels: &[Option<L>]) -> Vec<Vec<usize>> {
    let mut parents: Vec<usize> = (0..labels.len()).collect();
    for (pixel, label) in labels.iter().enumerate() {
        if label.is_none() {
            continue;
        }
        let left = (pixel % SIDE > 0).then(|| pixel - 1);
        let above = (pixel >= SIDE).then(|| pixel - SIDE);
        for neighbour in [left, above].into_iter().flatten() {
            if labels[neighbour] == *label {
                let (a, b) = (root(&mut parents, neighbour), root(&mut parents, pixel));
                parents[a.max(b)] = a.min(b);
            }
        }
    }
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); labels.len()];
    for (pixel, label) in labels.iter().enumerate() {
        if label.is_some() {
            let root = root(&mut parents, pixel);
            members[root].push(pixel);
        }
    }
    members.retain(|list| !list.is_empty());
    members
}

/// The smallest pixel of the component, halving the way there for the next search.
fn root(parents: &mut [usize], mut pixel: usize) -> usize {
    while parents[pixel] != pixel {
        parents[pixel] = parents[parents[pixel]];
        pixel = parents[pixel];
    }
    pixel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_one_component_and_another_label_inside_it_is_its_own() {
        let mut labels = vec![None; SIDE * SIDE];
        for y in 10..20 {
            for x in 10..20 {
                let border = !(11..19).contains(&x) || !(11..19).contains(&y);
                labels[y * SIDE + x] = border.then_some(1);
            }
        }
        labels[15 * SIDE + 15] = Some(2);
        // The last pixel of a row and the first of the next do not touch.
        labels[SIDE - 1] = Some(3);
        labels[SIDE] = Some(3);
        let mut sizes: Vec<_> = components(&labels).iter().map(Vec::len).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 1, 1, 36]);
    }
}
