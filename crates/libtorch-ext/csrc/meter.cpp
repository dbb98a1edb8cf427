// Meters of the bytes that tensors take: those on the CPU through LibTorch's own hook for memory profilers.
#include "meter.h"

#include "guard.h"

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <memory>
#include <vector>

using fewstep::Counted;
using fewstep::guarded;

namespace {

struct Meter {
  Counted counted;
  int64_t current = 0;
  int64_t peak = 0;
  int64_t peak_with_work = 0;
};

thread_local std::vector<Meter*> meters;

// What LibTorch's CPU allocator tells of each allocation (positive) and free (negative) on a thread.
class Listener : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, c10::Device device) override {
    if (device.is_cpu()) {
      fewstep::tell_meters(Counted::cpu, bytes);
    }
  }
  bool memoryProfilingEnabled() const override { return true; }
};

size_t listening() {
  return std::count_if(meters.begin(), meters.end(), [](const Meter* meter) { return meter->counted == Counted::cpu; });
}

}  // namespace

void fewstep::tell_meters(Counted what, int64_t bytes) noexcept {
  for (auto* meter : meters) {
    if (meter->counted == what) {
      meter->current += bytes;
      meter->peak = std::max(meter->peak, meter->current);
      meter->peak_with_work = std::max(meter->peak_with_work, meter->current);
    }
  }
}

void fewstep::tell_meters_of_working_memory(Counted what, int64_t bytes) noexcept {
  for (auto* meter : meters) {
    if (meter->counted == what) {
      meter->peak_with_work = std::max(meter->peak_with_work, meter->current + bytes);
    }
  }
}

// The meter is freed with fewstep_meter_stop, on the same thread.
extern "C" char* fewstep_meter_start(int counted, void** output) {
  return guarded([&] {
    auto meter = std::make_unique<Meter>(Meter{static_cast<Counted>(counted)});
    // One listener a thread, whatever the order in which meters end.
    const bool first = meter->counted == Counted::cpu && listening() == 0;
    meters.push_back(meter.get());
    if (first) {
      c10::ThreadLocalDebugInfo::_push(c10::DebugInfoKind::PROFILER_STATE, std::make_shared<Listener>());
    }
    *output = meter.release();
  });
}

extern "C" void fewstep_meter_read(const void* meter, int64_t* current, int64_t* peak, int64_t* peak_with_work) {
  const auto& read = *static_cast<const Meter*>(meter);
  *current = read.current;
  *peak = read.peak;
  *peak_with_work = read.peak_with_work;
}

extern "C" void fewstep_meter_reset_peak(void* meter) {
  auto& reset = *static_cast<Meter*>(meter);
  reset.peak = reset.peak_with_work = reset.current;
}

extern "C" char* fewstep_meter_stop(void* meter) {
  std::unique_ptr<Meter> owned(static_cast<Meter*>(meter));
  return guarded([&] {
    meters.erase(std::remove(meters.begin(), meters.end(), owned.get()), meters.end());
    if (owned->counted == Counted::cpu && listening() == 0) {
      c10::ThreadLocalDebugInfo::_pop(c10::DebugInfoKind::PROFILER_STATE);
    }
  });
}
