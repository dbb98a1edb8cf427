// What Rust holds of c10d's objects: boxes around their counted pointers.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace fewstep {

struct StoreHandle {
  c10::intrusive_ptr<c10d::Store> store;

  static c10::intrusive_ptr<c10d::Store>& of(void* handle) { return static_cast<StoreHandle*>(handle)->store; }
};

struct GroupHandle {
  c10::intrusive_ptr<c10d::Backend> backend;

  static c10d::Backend& of(void* handle) { return *static_cast<GroupHandle*>(handle)->backend; }
};

struct WorkHandle {
  c10::intrusive_ptr<c10d::Work> work;
};

// Makes a group over NCCL (nccl.cpp): LibTorch's CUDA half must be loaded.
c10::intrusive_ptr<c10d::Backend> nccl_group(
    const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, std::chrono::milliseconds timeout);

}  // namespace fewstep
