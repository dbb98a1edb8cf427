//! Wrong command lines and configurations: each is answered with one sentence and status 2.

use tempfile::TempDir;

use super::common::{fewstep, word};

#[test]
fn an_unknown_flag_names_the_nearest() {
    let text = fewstep(["train", "--no_such_flag"]).failed(2);
    assert!(
        text.contains("there is no flag --no_such_flag; the nearest is --"),
        "{text}"
    );
    let text = fewstep(["train", "--max-train-step", "4"]).failed(2);
    assert!(text.contains("the nearest is --max_train_steps"), "{text}");
}

#[test]
fn a_wrong_value_names_its_flag() {
    let text = fewstep(["train", "--train_batch_size", "many"]).failed(2);
    assert!(
        text.contains("--train_batch_size: `many` is not a whole number"),
        "{text}"
    );
    let text = fewstep(["train", "--loss_type=l1"]).failed(2);
    assert!(
        text.contains("--loss_type") && text.contains("l2, huber"),
        "{text}"
    );
    let text = fewstep(["train"]).failed(2);
    assert!(text.contains("--pretrained_teacher_model is required"), "{text}");
}

#[test]
fn what_comes_later_is_answered_by_name() {
    let text = fewstep(["train", "--hub_model_id=a/b", "--push_to_hub", "--hub-token", "x"]).failed(2);
    for name in ["not yet", "--hub_model_id", "--push_to_hub", "--hub_token"] {
        assert!(text.contains(name), "{name}: {text}");
    }
}

#[test]
fn flags_of_another_component_are_refused() {
    let words = ["debug", "forward", "--model=m", "--output=o", "--component"];
    for (rest, wanted) in [
        (
            &["unet", "--text=a"][..],
            "--text is for the components tokenizer",
        ),
        (&["tokenizer"], "they need it"),
        (&["tokenizer", "--text=a", "--inputs=i"], "--inputs has no part"),
        (&["vae_decode", "--unet=u"], "--unet is for --component unet"),
    ] {
        let text = fewstep([&words[..], rest].concat()).failed(2);
        assert!(text.contains(wanted), "{text}");
    }
    let text = fewstep([
        "generate",
        "--model=m",
        "--out=o",
        "--prompt=a",
        "--sampler=ddim",
        "--original_inference_steps=5",
    ])
    .failed(2);
    assert!(text.contains("is for --sampler lcm"), "{text}");
}

#[test]
fn a_wrong_key_names_the_file_and_the_nearest() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("run.toml");
    std::fs::write(&file, "train_batchsize = 4\n").unwrap();
    let text = fewstep(["train", "--config", &word(&file)]).failed(2);
    assert!(text.contains("run.toml"), "{text}");
    assert!(text.contains("the nearest is --train_batch_size"), "{text}");
}

#[test]
fn every_command_has_help_with_examples() {
    for command in [
        &["train"][..],
        &["generate"],
        &["lora", "convert"],
        &["lora", "inspect"],
        &["shards", "pack"],
        &["shards", "inspect"],
        &["debug", "init"],
        &["debug", "forward"],
        &["debug", "step"],
        &["debug", "sample"],
        &["completions"],
        &["man"],
    ] {
        let text = fewstep(command.iter().copied().chain(["--help"])).ok().stdout;
        assert!(
            text.contains("Example") && text.contains("fewstep "),
            "{command:?}: {text}"
        );
    }
}

#[test]
fn shells_and_the_manual_know_the_flags_of_help() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = fewstep(["completions", shell]).ok().stdout;
        for word in ["max_train_steps", "huber", "inspect"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let page = fewstep(["man"]).ok().stdout;
    assert!(
        page.contains(".TH fewstep 1") && page.contains("fewstep\\-train(1)"),
        "{page}"
    );
    let folder = TempDir::new().unwrap();
    fewstep(["man", "--out", &word(folder.path())]).ok();
    let page = std::fs::read_to_string(folder.path().join("fewstep-train.1")).unwrap();
    assert!(page.contains("max_train_steps"), "{page}");
    assert!(folder.path().join("fewstep-lora-convert.1").is_file());
    assert!(!folder.path().join("fewstep-help.1").exists());
}
