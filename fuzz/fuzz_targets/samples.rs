//! Any tar archive as a shard: its samples, captions and JSON, read as a loader reads them with each kind of filter; and
//! read again from the place of each find, as a run does that goes on.

#![no_main]

use std::sync::{Arc, LazyLock};

use fewstep_data::sample::{Found, Samples};
use fewstep_data::{Limits, Place, Unscored, Wanted};
use fewstep_fuzz::tar;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

/// Small enough that members get beyond them.
const LIMITS: Limits = Limits {
    max_member_bytes: 4096,
    max_text_bytes: 1024,
    max_pixels: 1 << 20,
    max_side: 4096,
    max_window_bytes: 1 << 20,
};

static WANTED: LazyLock<[Arc<Wanted>; 3]> = LazyLock::new(|| {
    let scored = Wanted {
        max_pwatermark: Some(0.5),
        min_aesthetic: Some(5.0),
        ..Wanted::default()
    };
    let from_json = Wanted {
        caption_key: Some("caption".into()),
        unscored: Unscored::Keep,
        ..scored.clone()
    };
    [Wanted::default(), scored, from_json].map(Arc::new)
});

fuzz_target!(|archive: &[u8]| {
    for wanted in &*WANTED {
        let read = |from: Place| {
            let at = usize::try_from(from.at).expect("it lies in the archive");
            Samples::starting_at(from, "a.tar".into(), &archive[at..], LIMITS, Arc::clone(wanted))
        };
        let finds: Vec<(Place, Found)> = read(Place::START).collect();
        assert!(!finds.is_empty(), "an archive without samples is to be told");
        for (number, find) in finds.iter().enumerate() {
            assert_eq!(find.0.ordinal, number as u64);
            if let Found::Sample(sample) = &find.1 {
                assert!(!sample.captions.is_empty());
            }
        }
        for find in finds.iter().take(6) {
            assert_eq!(read(find.0).next().as_ref(), Some(find));
        }
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    tar::mutate(data, size, max_size, seed)
});
