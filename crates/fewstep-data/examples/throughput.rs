//! Pictures a second of the whole way from a shard to a batch, in line, on one thread: fewstep's side of
//! `cargo xtask bench-data`.

use std::error::Error;
use std::time::Instant;

use fewstep_data::{DataConfig, Loader, Origin};

#[expect(clippy::print_stdout, reason = "its result is what it prints")]
fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [shard, resolution, batch_size, batches, window] = words.as_slice() else {
        return Err("wanted: SHARD RESOLUTION BATCH BATCHES WINDOW".into());
    };
    let config = DataConfig {
        origin: Origin::Shards(vec![shard.clone()]),
        resolution: resolution.parse()?,
        batch_size: batch_size.parse()?,
        shuffle_window: window.parse()?,
        ..DataConfig::default()
    };
    let samples = config.batch_size;
    let batches: usize = batches.parse()?;
    let mut loader = Loader::new(config)?;
    let _ = loader.next_batch()?;
    let start = Instant::now();
    for _ in 0..batches {
        let _ = loader.next_batch()?;
    }
    println!("{}", (samples * batches) as f64 / start.elapsed().as_secs_f64());
    Ok(())
}
