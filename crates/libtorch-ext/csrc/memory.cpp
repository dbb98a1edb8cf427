// What a device's caching allocator holds, waiting for it, and how exactly it multiplies.
#include "guard.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>

using fewstep::guarded;

extern "C" char* fewstep_device_memory(int device, int64_t* allocated, int64_t* peak, int64_t* free_bytes,
                                       int64_t* total) {
  return guarded([&] {
    const auto stats = at::accelerator::getDeviceStats(static_cast<c10::DeviceIndex>(device));
    const auto aggregate = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *allocated = stats.allocated_bytes[aggregate].current;
    *peak = stats.allocated_bytes[aggregate].peak;
    const auto info = at::accelerator::getMemoryInfo(static_cast<c10::DeviceIndex>(device));
    *free_bytes = static_cast<int64_t>(info.first);
    *total = static_cast<int64_t>(info.second);
  });
}

extern "C" char* fewstep_reset_peak(int device) {
  return guarded([&] { at::accelerator::resetPeakStats(static_cast<c10::DeviceIndex>(device)); });
}

extern "C" char* fewstep_synchronize(int device) {
  return guarded([&] { at::accelerator::synchronizeDevice(static_cast<c10::DeviceIndex>(device)); });
}

extern "C" char* fewstep_allow_tf32(int allow) {
  return guarded([&] { at::globalContext().setAllowTF32CuBLAS(allow != 0); });
}
