//! Any bytes as a safetensors file: its header, then every tensor, as stored and as f32.

#![no_main]

use fewstep_fuzz::{file, safetensors};
use fewstep_models::weights::TensorFile;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use tch::{Device, Kind};

fuzz_target!(|bytes: &[u8]| {
    let path = file("model.safetensors", bytes);
    let Ok(file) = TensorFile::open(&path) else { return };
    for name in file.names() {
        let Ok(tensor) = file.tensor(name) else { continue };
        assert_eq!(tensor.size(), file.shape(name));
        let float = file.tensor_as(name, Kind::Float, Device::Cpu);
        assert_eq!(float.expect("it was read before").size(), file.shape(name));
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    safetensors::mutate(data, size, max_size, seed)
});
