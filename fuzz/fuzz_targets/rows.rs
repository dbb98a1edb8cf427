//! Any bytes as the metadata of a folder of pictures: metadata.jsonl and metadata.csv, or where they begin as parquet files
//! do, metadata.parquet and a parquet file with pictures. All rows are read.

#![no_main]

use std::path::Path;

use fewstep_data::folder::list;
use fewstep_data::{Limits, PictureFolder, Place};
use fewstep_fuzz::{file, pass_panics_of_libraries};
use libfuzzer_sys::fuzz_target;

/// Shards, and finds of each, that are looked at.
const MOST: usize = 256;

fuzz_target!(init: pass_panics_of_libraries(), |bytes: &[u8]| {
    let names: &[&str] = match bytes.starts_with(b"PAR1") {
        true => &["metadata.parquet", "pictures.parquet"],
        false => &["metadata.jsonl", "metadata.csv"],
    };
    for name in names {
        let kind = format!("rows-{name}");
        file(&format!("{kind}/a.png"), b"not looked at");
        let path = file(&format!("{kind}/{name}"), bytes);
        read(path.parent().expect("it lies in a folder"));
    }
});

fn read(folder: &Path) {
    let limits = Limits {
        max_member_bytes: 1 << 16,
        ..Limits::default()
    };
    let Ok(shards) = list(&PictureFolder::new(folder)) else {
        return;
    };
    for shard in shards.iter().take(MOST) {
        let Ok(finds) = shard.open(Place::START, &limits) else {
            continue;
        };
        let finds: Vec<_> = finds.take(MOST).collect();
        if let Some((place, last)) = finds.last()
            && let Ok(mut again) = shard.open(*place, &limits)
        {
            assert_eq!(again.next().as_ref(), Some(&(*place, last.clone())));
        }
    }
}
