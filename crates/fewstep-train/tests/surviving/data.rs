//! Runs whose data give out: what was trained until then is kept, and gone on from when they are well again.

use std::fs;
use std::path::Path;

use super::common::fixtures;
use super::common::runs::{WHOLE, error, losses, options, same_tensors, train};
use fewstep_train::Config;

/// A run on a shard that a command writes: all of it where `well` is there, and else a part of it before it hangs.
/// One update takes two batches of two, so that data may give out within it.
fn hanging_run(out: &Path, well: &Path) -> Config {
    let shard = fixtures().join("data/good.tar");
    let (shard, well) = (shard.display(), well.display());
    let command =
        format!("pipe:if [ -e {well} ]; then cat {shard}; else head -c 37000 {shard}; sleep 1000; fi");
    options(
        out,
        &[
            ("train_shards_path_or_url", &command),
            ("train_batch_size", "2"),
            ("gradient_accumulation_steps", "2"),
            ("max_train_steps", "5"),
            ("checkpointing_steps", "100"),
            // The window holds samples back, and gives none once the shard hangs.
            ("shuffle_buffer_size", "1"),
            ("max_data_wait", "1"),
        ],
    )
}

#[test]
fn when_data_give_out_what_is_done_is_kept_and_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let (straight, broken) = (folder.path().join("a"), folder.path().join("b"));
    let well = folder.path().join("well");
    let text = error(&hanging_run(&broken, &well));
    assert!(text.contains("--max_data_wait"), "{text}");
    let done = losses(&broken).last().unwrap().0;
    assert!((1..5).contains(&done), "{done}");
    assert!(broken.join(format!("checkpoint-{done}/state.json")).is_file());

    fs::write(&well, "").unwrap();
    train(&hanging_run(&straight, &well));
    train(&hanging_run(&broken, &well));
    assert_eq!(losses(&straight), losses(&broken));
    for file in WHOLE {
        let file = Path::new("checkpoint-5").join(file);
        same_tensors(&straight.join(&file), &broken.join(&file));
    }
}
