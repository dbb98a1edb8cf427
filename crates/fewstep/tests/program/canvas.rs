//! `fewstep generate` over a picture.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::common::{fewstep, fixture, word};

/// A picture of `side` pixels that `color` makes of column and row.
fn picture(path: &Path, side: u32, color: impl Fn(u32, u32) -> [u8; 3]) {
    let bytes: Vec<u8> = (0..side)
        .flat_map(|y| (0..side).map(move |x| (x, y)))
        .flat_map(|(x, y)| color(x, y))
        .collect();
    let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), side, side);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&bytes).unwrap();
}

/// The first three bytes of every pixel.
fn pixels(path: &Path) -> Vec<u8> {
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut bytes).unwrap();
    bytes
}

struct Easel {
    folder: TempDir,
    image: String,
    mask: String,
}

impl Easel {
    /// A picture of 35 pixels, of which whole latents cover 32, and a mask of its right half.
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let [image, mask] = ["image.png", "mask.png"].map(|name| folder.path().join(name));
        picture(&image, 35, |x, y| [(7 * x) as u8, (7 * y) as u8, 90]);
        picture(&mask, 35, |x, _| if x < 18 { [0; 3] } else { [255; 3] });
        Easel {
            image: word(&image),
            mask: word(&mask),
            folder,
        }
    }

    fn paint(&self, name: &str, flags: &[&str]) -> PathBuf {
        let (model, out) = (word(fixture("models/tiny-sd")), self.folder.path().join(name));
        let out_word = word(&out);
        let words = [
            "generate",
            "--model",
            &model,
            "--prompt=a cat",
            "--device=cpu",
            "--guidance_scale=1",
            "--image",
            &self.image,
            "--out",
            &out_word,
        ];
        fewstep([&words[..], flags].concat()).ok();
        out
    }
}

fn difference(a: &[u8], b: &[u8], part: impl Fn(usize) -> bool) -> u32 {
    let pairs = a.iter().zip(b).enumerate().filter(|(i, _)| part(i / 3 % 32));
    pairs.map(|(_, (a, b))| u32::from(a.abs_diff(*b))).max().unwrap()
}

#[test]
fn strength_says_how_much_is_painted_anew() {
    let easel = Easel::new();
    let paint = |name, flags: &[&str]| pixels(&easel.paint(name, flags));
    let kept = paint("kept.png", &["--strength=0.02", "--steps=1"]);
    assert_eq!(kept.len(), 3 * 32 * 32);
    let half = paint("half.png", &["--strength=0.5"]);
    let last = paint("last.png", &["--strength=0.5", "--strength_steps=last"]);
    assert_ne!(half, last);
    // The two last of four steps, and four steps over the same half, start at the same place.
    let one = ["--strength=0.5", "--steps=2", "--strength_steps=last"];
    assert_ne!(paint("one.png", &one), half);
}

#[test]
fn the_teacher_paints_over_a_picture_too() {
    let easel = Easel::new();
    let paint = |name, flags: &[&str]| pixels(&easel.paint(name, &[&["--sampler=ddim"], flags].concat()));
    // The last step is the same one, however many come before it and are left out.
    let of_ten = paint("ten.png", &["--steps=10", "--strength=0.1"]);
    let last = ["--steps=20", "--strength=0.05", "--strength_steps=last"];
    assert_eq!(of_ten.len(), 3 * 32 * 32);
    assert_eq!(of_ten, paint("twenty.png", &last));
    assert_ne!(of_ten, paint("two.png", &["--steps=10", "--strength=0.2"]));
    let part = ["--steps=10", "--strength=0.1", "--mask", &easel.mask];
    assert_ne!(of_ten, paint("part.png", &part));
}

#[test]
fn only_the_white_part_of_the_mask_changes() {
    let easel = Easel::new();
    let paint = |name, flags: &[&str]| pixels(&easel.paint(name, flags));
    let one = paint("one.png", &["--mask", &easel.mask, "--seed=1", "--steps=2"]);
    let other = paint("other.png", &["--mask", &easel.mask, "--seed=1", "--steps=3"]);
    // Far from the mask's edge the VAE's decoder sees the same latents.
    let near = difference(&one, &other, |x| x >= 20);
    let far = difference(&one, &other, |x| x < 4);
    assert!(near > 3 * far.max(1), "{near} in the mask, {far} far from it");
}

#[test]
fn what_does_not_go_together_is_said() {
    let easel = Easel::new();
    let model = word(fixture("models/tiny-sd"));
    let words = [
        "generate",
        "--model",
        &model,
        "--prompt=a",
        "--out=never.png",
        "--device=cpu",
    ];
    let failed = |flags: &[&str], status| fewstep([&words[..], flags].concat()).failed(status);
    let image = ["--image", &easel.image, "--sampler=ddim"];
    for flag in [
        "--strength_steps=lcm",
        "--timesteps=999,499",
        "--original_inference_steps=30",
    ] {
        let text = failed(&[&image[..], &[flag]].concat(), 2);
        assert!(text.contains("is for --sampler lcm"), "{text}");
    }
    let text = failed(
        &[&image[..2], &["--timesteps=999", "--strength_steps=last"]].concat(),
        2,
    );
    assert!(text.contains("--strength_steps is for --steps"), "{text}");
    let text = failed(&[&image[..], &["--strength=0.01"]].concat(), 1);
    assert!(
        text.contains("of 50 timesteps a strength of 0.01 leaves none"),
        "{text}"
    );
    assert!(failed(&["--mask", &easel.mask], 2).contains("--image"));
    let text = failed(&["--image", &model], 1);
    assert!(text.contains("tiny-sd"), "{text}");
    let text = failed(&["--image", &easel.image, "--strength=0"], 1);
    assert!(text.contains("strength"), "{text}");
    let none_left = ["--image", &easel.image, "--strength=0.1", "--strength_steps=last"];
    let text = failed(&none_left, 1);
    assert!(
        text.contains("of 4 timesteps a strength of 0.1 leaves none"),
        "{text}"
    );
    let text = failed(&["--image", &easel.image, "--height=30"], 1);
    assert!(text.contains("height of the picture is 30"), "{text}");
}
