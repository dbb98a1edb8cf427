//! CLIP's tokenizer: golden ids, the files that it takes, and files that are wrong.

use std::fs;
use std::path::Path;

use super::common::fixture;
use fewstep_models::clip::ClipTokenizer;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The ids of one text, without the padding.
fn ids(tokenizer: &ClipTokenizer, text: &str) -> Vec<i64> {
    let ids = Vec::<i64>::try_from(tokenizer.encode(&[text]).unwrap().view([-1])).unwrap();
    assert_eq!(ids.len(), tokenizer.max_length());
    let padding = ids.iter().rev().take_while(|&id| Some(id) == ids.last()).count();
    ids[..ids.len() - padding + 1].to_vec()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A folder with vocab.json and merges.txt, which is all that a tokenizer must have.
fn bare() -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in ["vocab.json", "merges.txt"] {
        fs::copy(
            fixture("models/tiny-sd/tokenizer").join(name),
            folder.path().join(name),
        )
        .unwrap();
    }
    folder
}

fn write(folder: &TempDir, name: &str, value: &Value) {
    fs::write(folder.path().join(name), value.to_string()).unwrap();
}

#[test]
fn tokenizes_as_transformers_does() {
    let golden = read(&fixture("golden/tokenizer.json"));
    let texts: Vec<&str> = golden["texts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect();
    for (pad, folder) in golden["folders"].as_object().unwrap() {
        let tokenizer = ClipTokenizer::load(&fixture("models").join(folder.as_str().unwrap())).unwrap();
        let ids = tokenizer.encode(&texts).unwrap();
        for (i, text) in texts.iter().enumerate() {
            let got = Vec::<i64>::try_from(ids.get(i as i64)).unwrap();
            assert_eq!(
                json!(got),
                golden[format!("{pad}_input_ids")][i],
                "{text:?} padded with {pad}"
            );
        }
    }
}

#[test]
fn the_later_of_two_names_decides_how_a_token_is_found() {
    // As the end of a text the token is found in any case, as padding only as it stands: what transformers
    // 5.23 says of these folders.
    let text = "<|STARTOFTEXT|> <|ENDOFTEXT|>";
    let spelt = [27, 347, 68, 77, 582, 69, 83, 68, 87, 339, 91, 285];
    let end = ClipTokenizer::load(&fixture("models/tiny-sd/tokenizer")).unwrap();
    assert_eq!(ids(&end, text), [&[608, 608][..], &spelt, &[609]].concat());
    let exclamation = ClipTokenizer::load(&fixture("models/tiny-sd2/tokenizer")).unwrap();
    assert_eq!(ids(&exclamation, text), [608, 608, 609, 609, 0]);
}

#[test]
fn one_file_says_the_same_as_two() {
    let two = bare();
    let merges = fs::read_to_string(two.path().join("merges.txt")).unwrap();
    let merges: Vec<&str> = merges.lines().skip(1).collect();
    let pairs: Vec<Vec<&str>> = merges.iter().map(|line| line.split(' ').collect()).collect();
    let vocab = read(&two.path().join("vocab.json"));
    let expected = ClipTokenizer::load(two.path()).unwrap();
    for merges in [json!(merges), json!(pairs)] {
        let one = TempDir::new().unwrap();
        write(
            &one,
            "tokenizer.json",
            &json!({"model": {"vocab": vocab, "merges": merges}}),
        );
        let tokenizer = ClipTokenizer::load(one.path()).unwrap();
        for text in ["a small red circle", "a photo of the background", "éclair 12!"] {
            assert_eq!(ids(&tokenizer, text), ids(&expected, text));
        }
    }
}

#[test]
fn configured_length_and_padding_are_kept() {
    let folder = bare();
    write(
        &folder,
        "special_tokens_map.json",
        &json!({"pad_token": {"content": "!", "normalized": false}}),
    );
    write(
        &folder,
        "tokenizer_config.json",
        &json!({"model_max_length": 5, "pad_token": "ignored"}),
    );
    let tokenizer = ClipTokenizer::load(folder.path()).unwrap();
    let ids = tokenizer.encode(&["", "a a a a a a a"]).unwrap();
    assert_eq!(ids.size(), [2, 5]);
    let ids = Vec::<i64>::try_from(ids.view([-1])).unwrap();
    assert_eq!(ids, [608, 609, 0, 0, 0, 608, 320, 320, 320, 609]);
    // Transformers writes this number where there is no limit.
    write(
        &folder,
        "tokenizer_config.json",
        &json!({"model_max_length": 1e30}),
    );
    assert_eq!(ClipTokenizer::load(folder.path()).unwrap().max_length(), 77);
}

#[test]
fn added_tokens_get_the_ids_after_the_vocabulary() {
    let folder = bare();
    let token = |content: &str| json!({"content": content, "normalized": true, "special": false});
    let decoder = json!({"610": token("<new1>"), "611": token("zzz")});
    write(
        &folder,
        "tokenizer_config.json",
        &json!({"added_tokens_decoder": decoder}),
    );
    let tokenizer = ClipTokenizer::load(folder.path()).unwrap();
    assert_eq!(ids(&tokenizer, "<new1> zzz"), [608, 610, 611, 609]);
    fs::remove_file(folder.path().join("tokenizer_config.json")).unwrap();
    write(&folder, "added_tokens.json", &json!({"<new1>": 610, "zzz": 611}));
    let tokenizer = ClipTokenizer::load(folder.path()).unwrap();
    assert_eq!(ids(&tokenizer, "<new1> zzz"), [608, 610, 611, 609]);
}

#[test]
fn files_that_are_wrong_are_named() {
    for (name, text, said) in [
        ("vocab.json", "{", "vocab.json is not valid JSON"),
        ("vocab.json", "[1]", "vocab.json has no vocabulary"),
        ("vocab.json", r#"{"a": -1}"#, "gives token \"a\" the id -1"),
        (
            "vocab.json",
            r#"{"a": 5000000000}"#,
            "gives token \"a\" the id 5000000000",
        ),
        ("vocab.json", r#"{"a": 0}"#, "does not hold a CLIP tokenizer"),
        ("merges.txt", "#version: 0.2\na b c\n", "two tokens in line 2"),
        ("merges.txt", "ab", "two tokens in line 1"),
        ("merges.txt", "qq zz", "does not hold a CLIP tokenizer"),
        ("tokenizer.json", "{}", "tokenizer.json has no vocabulary"),
        (
            "tokenizer.json",
            r#"{"model": {"vocab": {}, "merges": [["a"]]}}"#,
            "no list of merges",
        ),
        (
            "tokenizer_config.json",
            r#"{"model_max_length": 1}"#,
            "model_max_length",
        ),
        (
            "tokenizer_config.json",
            r#"{"padding_side": "left"}"#,
            "padding_side",
        ),
        (
            "tokenizer_config.json",
            r#"{"added_tokens_decoder": {"x": {}}}"#,
            "added_tokens_decoder",
        ),
        ("special_tokens_map.json", r#"{"pad_token": 3}"#, "pad_token"),
    ] {
        let folder = bare();
        fs::write(folder.path().join(name), text).unwrap();
        let error = ClipTokenizer::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains(said), "{name} {text}: {error}");
        assert!(error.contains(folder.path().to_str().unwrap()), "{error}");
    }
    let folder = bare();
    fs::remove_file(folder.path().join("merges.txt")).unwrap();
    let error = ClipTokenizer::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("merges.txt does not exist"), "{error}");
    let error = ClipTokenizer::load(&folder.path().join("none"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("none does not exist"), "{error}");
}
