//! `fewstep generate` with the tiny models.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use super::common::{Ran, fewstep, fixture, word};

/// What lies in a PNG file.
struct Picture {
    width: u32,
    height: u32,
    bytes: Vec<u8>,
    texts: Vec<(String, String)>,
}

fn open(path: &Path) -> Picture {
    let mut reader = png::Decoder::new(BufReader::new(File::open(path).unwrap()))
        .read_info()
        .unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut bytes).unwrap();
    let info = reader.info();
    let latin = info
        .uncompressed_latin1_text
        .iter()
        .map(|chunk| (chunk.keyword.clone(), chunk.text.clone()));
    let utf8 = info
        .utf8_text
        .iter()
        .map(|chunk| (chunk.keyword.clone(), chunk.get_text().unwrap()));
    Picture {
        width: info.width,
        height: info.height,
        texts: latin.chain(utf8).collect(),
        bytes,
    }
}

/// A student of the tiny teacher after one step, trained when first asked for.
fn student() -> &'static Path {
    static RUN: OnceLock<PathBuf> = OnceLock::new();
    RUN.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("student-{}", std::process::id()));
        let (teacher, shards) = (word(fixture("models/tiny-sd")), word(fixture("data/good.tar")));
        let words = [
            "train",
            "--pretrained_teacher_model",
            &teacher,
            "--output_dir",
            &word(&out),
        ];
        let data = [
            "--train_shards_path_or_url",
            &shards,
            "--resolution=32",
            "--train_batch_size=1",
        ];
        fewstep([&words[..], &data, &["--max_train_steps=1", "--device=cpu"]].concat()).ok();
        out
    })
}

/// Paints with the student.
fn paint(out: &Path, flags: &[&str]) -> Ran {
    let (model, unet, out) = (
        word(fixture("models/tiny-sd")),
        word(student().join("unet_target")),
        word(out),
    );
    let words = [
        "generate", "--model", &model, "--unet", &unet, "--device", "cpu", "--out", &out,
    ];
    fewstep([&words[..], flags].concat())
}

#[test]
fn the_same_seed_paints_the_same_and_says_how() {
    let folder = TempDir::new().unwrap();
    let [a, b, c] = ["a.png", "b.png", "c.png"].map(|name| folder.path().join(name));
    let flags = [
        "--prompt",
        "a cat, 猫",
        "--num_images",
        "3",
        "--steps",
        "2",
        "--guidance-scale",
        "8",
        "--seed",
    ];
    for (path, seed) in [(&a, "1"), (&b, "1"), (&c, "2")] {
        paint(path, &[&flags[..], &[seed]].concat()).ok();
    }
    assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    let (one, two) = (open(&a), open(&c));
    assert_ne!(one.bytes, two.bytes);
    // Three pictures of 32 x 32 in two columns, with two pixels between them.
    assert_eq!((one.width, one.height), (66, 66));
    let text = |keyword: &str| &one.texts.iter().find(|(k, _)| k == keyword).unwrap().1;
    assert!(
        text("parameters")
            .starts_with("a cat, 猫\nSteps: 2, Sampler: LCM, CFG scale: 8, Seed: 1, Size: 32x32")
    );
    let settings: Value = serde_json::from_str(text("fewstep")).unwrap();
    assert_eq!(settings["prompts"][0], "a cat, 猫");
    assert_eq!(
        (settings["seed"].as_u64(), settings["num_images"].as_u64()),
        (Some(1), Some(3))
    );
}

#[test]
fn pictures_do_not_depend_on_the_batch() {
    let folder = TempDir::new().unwrap();
    let [a, b] = ["a.png", "b.png"].map(|name| folder.path().join(name));
    let flags = [
        "--prompt",
        "a cat",
        "--prompt",
        "a dog",
        "--num_images=2",
        "--steps=2",
        "--batch_size",
    ];
    for (path, batch) in [(&a, "1"), (&b, "3")] {
        paint(path, &[&flags[..], &[batch]].concat()).ok();
    }
    let off = |(x, y): (&u8, &u8)| x.abs_diff(*y);
    let (a, b) = (open(&a).bytes, open(&b).bytes);
    assert!(a.iter().zip(&b).map(off).max().unwrap() <= 1);
}

#[test]
fn the_teacher_paints_with_guidance_from_a_file_of_prompts() {
    let folder = TempDir::new().unwrap();
    let (out, prompts) = (folder.path().join("a.png"), folder.path().join("prompts.txt"));
    fs::write(&prompts, "a red circle\n\n a blue square \n").unwrap();
    let model = word(fixture("models/tiny-sd"));
    let (out_word, prompts) = (word(&out), word(&prompts));
    let words = [
        "generate",
        "--model",
        &model,
        "--sampler=ddim",
        "--steps=3",
        "--device=cpu",
        "--height=16",
    ];
    let rest = [
        "--prompts",
        &prompts,
        "--negative_prompt",
        "blur",
        "--out",
        &out_word,
    ];
    let ran = fewstep([&words[..], &rest].concat()).ok();
    assert!(!ran.stderr.contains("note:"), "{}", ran.stderr);
    let picture = open(&out);
    assert_eq!((picture.width, picture.height), (32, 34));
    assert!(
        picture.texts[0].1.contains("Negative prompt: blur"),
        "{:?}",
        picture.texts
    );
}

#[test]
fn what_cannot_be_painted_is_said() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("a.png");
    let text = paint(&out, &[]).failed(2);
    assert!(text.contains("nothing to paint"), "{text}");
    let text = paint(&out, &["--prompt=a", "--height=30"]).failed(1);
    assert!(text.contains("height of the picture is 30"), "{text}");
    let text = paint(&out, &["--prompt=a", "--steps=51"]).failed(1);
    assert!(text.contains("51"), "{text}");
    let text = paint(&folder.path().join("no/a.png"), &["--prompt=a", "--steps=1"]).failed(1);
    assert!(text.contains("no/a.png"), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let ran = paint(&out, &["--prompt=a", "--steps=1", "--negative_prompt=b"]).ok();
    assert!(
        ran.stderr.contains("note: --negative_prompt has no effect"),
        "{}",
        ran.stderr
    );
}

#[test]
fn timesteps_can_be_chosen_and_what_is_seldom_meant_is_noted() {
    let folder = TempDir::new().unwrap();
    let [a, b] = ["a.png", "b.png"].map(|name| folder.path().join(name));
    let ran = paint(&a, &["--prompt=a", "--timesteps=999,499"]).ok();
    assert!(!ran.stderr.contains("note:"), "{}", ran.stderr);
    assert!(ran.stderr.contains("in 2 steps"), "{}", ran.stderr);
    paint(&b, &["--prompt=a", "--steps=2"]).ok();
    assert_eq!(open(&a).bytes, open(&b).bytes);

    let ran = paint(&b, &["--prompt=a", "--timesteps=900,500"]).ok();
    let notes: Vec<&str> = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with("note:"))
        .collect();
    assert_eq!(
        notes,
        [
            "note: the custom timesteps start at 900, not at the schedule's last timestep 999",
            "note: the student was not distilled at the custom timesteps [900, 500]"
        ]
    );
    assert_ne!(open(&a).bytes, open(&b).bytes);
    let text = paint(&b, &["--prompt=a", "--timesteps=499,999"]).failed(1);
    assert!(text.contains("custom timesteps must descend"), "{text}");
    let text = paint(&b, &["--prompt=a", "--timesteps=999", "--steps=1"]).failed(2);
    assert!(text.contains("--steps"), "{text}");
}

#[test]
fn another_vae_decodes() {
    let folder = TempDir::new().unwrap();
    let [own, other, inside] = ["own.png", "other.png", "inside.png"].map(|name| folder.path().join(name));
    let model = fixture("models/tiny-sd2");
    paint(&own, &["--prompt=a", "--steps=1"]).ok();
    paint(
        &other,
        &["--prompt=a", "--steps=1", "--vae", &word(model.join("vae"))],
    )
    .ok();
    paint(&inside, &["--prompt=a", "--steps=1", "--vae", &word(&model)]).ok();
    assert!(open(&other).bytes == open(&inside).bytes);
    assert!(open(&own).bytes != open(&other).bytes);
    let texts = open(&inside).texts;
    let settings = &texts.iter().find(|(keyword, _)| keyword == "fewstep").unwrap().1;
    let settings: Value = serde_json::from_str(settings).unwrap();
    assert_eq!(settings["vae"], word(&model));
    let text = paint(&own, &["--prompt=a", "--vae", &word(fixture("models"))]).failed(1);
    assert!(text.contains("config.json"), "{text}");
}
