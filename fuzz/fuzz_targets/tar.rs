//! Any bytes as a tar archive: the walk ends, and goes on from each member as it did from the beginning.

#![no_main]

use fewstep_data::tar::Members;
use fewstep_fuzz::tar;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

/// Members of more bytes are passed over instead of read.
const READ: u64 = 1 << 16;

fuzz_target!(|archive: &[u8]| {
    let mut members = Members::new(archive);
    let mut found = Vec::new();
    while let Ok(Some(member)) = members.advance() {
        if member.size <= READ {
            let Ok(bytes) = members.read() else { break };
            assert_eq!(bytes.len() as u64, member.size);
        }
        found.push(member);
    }
    for member in found.iter().take(8) {
        let from = usize::try_from(member.at).expect("it lies in the archive");
        let mut again = Members::starting_at(member.at, &archive[from..]);
        assert_eq!(again.advance().expect("it was there").as_ref(), Some(member));
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    tar::mutate(data, size, max_size, seed)
});
