// Process groups of c10d's, and their collective operations.
#include "guard.h"
#include "handles.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <chrono>
#include <string>
#include <vector>

using c10d::ProcessGroupGloo;
using fewstep::GroupHandle;
using fewstep::guarded;
using fewstep::StoreHandle;
using fewstep::WorkHandle;

namespace {

at::Tensor& tensor(void* handle) { return *static_cast<at::Tensor*>(handle); }

// A handle of an operation that is under way.
void give(c10::intrusive_ptr<c10d::Work> work, void** output) { *output = new WorkHandle{std::move(work)}; }

}  // namespace

// `interface` is a network interface's name and `host` an address of this machine; either may be null.
extern "C" char* fewstep_group_gloo(void* store, const char* name, int rank, int size, int64_t joining_ms,
                                    int64_t operation_ms, const char* interface, const char* host, void** output) {
  return guarded([&] {
    auto options = ProcessGroupGloo::Options::create(std::chrono::milliseconds(joining_ms));
    if (interface != nullptr) {
      options->devices.push_back(ProcessGroupGloo::createDeviceForInterface(interface));
    } else if (host != nullptr) {
      options->devices.push_back(ProcessGroupGloo::createDeviceForHostname(host));
    } else {
      options->devices.push_back(ProcessGroupGloo::createDefaultDevice());
    }
    auto own = c10::make_intrusive<c10d::PrefixStore>(name, StoreHandle::of(store));
    c10::intrusive_ptr<c10d::Backend> group = c10::make_intrusive<ProcessGroupGloo>(own, rank, size, options);
    group->setTimeout(std::chrono::milliseconds(operation_ms));
    *output = new GroupHandle{std::move(group)};
  });
}

extern "C" char* fewstep_group_nccl(void* store, const char* name, int rank, int size, int64_t operation_ms,
                                    void** output) {
  return guarded([&] {
    auto own = c10::make_intrusive<c10d::PrefixStore>(name, StoreHandle::of(store));
    *output = new GroupHandle{fewstep::nccl_group(own, rank, size, std::chrono::milliseconds(operation_ms))};
  });
}

extern "C" char* fewstep_group_free(void* group) {
  return guarded([&] { delete static_cast<GroupHandle*>(group); });
}

extern "C" char* fewstep_group_all_reduce(void* group, void* values, void** output) {
  return guarded([&] {
    std::vector<at::Tensor> list{tensor(values)};
    give(GroupHandle::of(group).allreduce(list), output);
  });
}

extern "C" char* fewstep_group_broadcast(void* group, void* values, int root, void** output) {
  return guarded([&] {
    std::vector<at::Tensor> list{tensor(values)};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    give(GroupHandle::of(group).broadcast(list, options), output);
  });
}

extern "C" char* fewstep_group_reduce_scatter(void* group, void* own, void* all, void** output) {
  return guarded([&] { give(GroupHandle::of(group)._reduce_scatter_base(tensor(own), tensor(all)), output); });
}

extern "C" char* fewstep_group_all_gather(void* group, void* all, void* own, void** output) {
  return guarded([&] { give(GroupHandle::of(group)._allgather_base(tensor(all), tensor(own)), output); });
}

// Waits for an operation: 1 when it is done, 0 when the time is over first. On CUDA the stream waits, not the host.
extern "C" char* fewstep_work_wait(void* work, int64_t timeout_ms, int* done) {
  return guarded([&] {
    auto& pending = *static_cast<WorkHandle*>(work)->work;
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    *done = 0;
    try {
      pending.wait(std::chrono::milliseconds(timeout_ms));
    } catch (...) {
      if (!pending.isCompleted() && std::chrono::steady_clock::now() >= end) {
        return;
      }
      throw;
    }
    *done = 1;
  });
}

extern "C" char* fewstep_work_free(void* work) {
  return guarded([&] { delete static_cast<WorkHandle*>(work); });
}
