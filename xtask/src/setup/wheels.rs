//! Which wheels hold LibTorch: the pins of torch 2.11.0's own requirements, with digests and sizes.

use super::Flavour;

/// One wheel: the package's name and version, the file's size and digest.
pub(super) struct Wheel {
    pub(super) package: &'static str,
    pub(super) version: &'static str,
    pub(super) bytes: u64,
    pub(super) sha256: &'static str,
}

/// The wheels of a flavour.
pub(super) fn wheels(flavour: Flavour) -> Vec<&'static Wheel> {
    let more: &[Wheel] = match flavour {
        Flavour::Cpu => &[],
        Flavour::Cuda => &CUDA,
    };
    BASE.iter().chain(more).collect()
}

const fn wheel(package: &'static str, version: &'static str, bytes: u64, sha256: &'static str) -> Wheel {
    Wheel {
        package,
        version,
        bytes,
        sha256,
    }
}

/// What both flavours need: the CPU library is linked against two of CUDA's.
#[rustfmt::skip]
const BASE: [Wheel; 3] = [
    wheel("torch", "2.11.0", 530_604_548, "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a"),
    wheel("nvidia-cuda-cupti", "13.0.85", 10_715_597, "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"),
    wheel("nvidia-cuda-runtime", "13.0.96", 2_243_632, "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"),
];

/// What libtorch_cuda needs besides.
#[rustfmt::skip]
const CUDA: [Wheel; 13] = [
    wheel("nvidia-cublas", "13.1.0.3", 423_133_236, "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171"),
    wheel("nvidia-cuda-nvrtc", "13.0.88", 90_215_200, "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575"),
    wheel("nvidia-cudnn-cu13", "9.19.0.56", 366_066_321, "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf"),
    wheel("nvidia-cufft", "12.0.0.61", 214_085_489, "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3"),
    wheel("nvidia-cufile", "1.15.1.6", 1_223_672, "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44"),
    wheel("nvidia-curand", "10.4.0.35", 59_544_258, "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc"),
    wheel("nvidia-cusolver", "12.0.4.66", 200_941_980, "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112"),
    wheel("nvidia-cusparse", "12.6.3.3", 145_942_937, "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b"),
    wheel("nvidia-cusparselt-cu13", "0.8.0", 169_884_119, "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd"),
    wheel("nvidia-nccl-cu13", "2.28.9", 196_493_177, "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42"),
    wheel("nvidia-nvjitlink", "13.0.88", 40_713_933, "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b"),
    wheel("nvidia-nvshmem-cu13", "3.4.5", 60_412_546, "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80"),
    wheel("nvidia-nvtx", "13.0.85", 148_047, "4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4"),
];
