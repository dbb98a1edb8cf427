// LibTorch's own profiler (Kineto), and names for stretches of a program that it shows.
#include "guard.h"

#include <ATen/record_function.h>
#include <c10/util/Logging.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>

using fewstep::guarded;

namespace {

namespace profiler = torch::autograd::profiler;
using torch::profiler::impl::ActivityType;
using Recording = profiler::ProfilerResult;

// What an event is, as profiler.rs numbers it.
enum What : int { span = 0, operation = 1, kernel = 2, memory = 3 };

// One event, as profiler.rs reads it. The texts live as long as the call that hands them out.
struct Event {
  const char* name;
  const char* sizes;
  int what;
  // -1 is the CPU.
  int device;
  uint64_t thread;
  int64_t start_ns;
  int64_t end_ns;
  int64_t bytes;
};

What what_is(const profiler::KinetoEvent& event, const std::string& name) {
  if (name == "[memory]") {
    return memory;
  }
  if (event.deviceType() != c10::DeviceType::CPU) {
    return kernel;
  }
  return event.scope() == static_cast<uint8_t>(at::RecordScope::USER_SCOPE) ? span : operation;
}

// LibTorch warns of the first tensor that is older than the recording and goes; it is known that they are not counted.
void hush_warnings() { FLAGS_caffe2_log_level = std::max(FLAGS_caffe2_log_level, static_cast<int>(c10::GLOG_ERROR)); }

// The sizes of what an operation was given, as in `[2, 320, 64, 64] [320]`; what is no tensor has none.
std::string sizes(const profiler::KinetoEvent& event) {
  std::string text;
  for (const auto& shape : event.shapes()) {
    if (!shape.empty()) {
      text += (text.empty() ? "[" : " [") + c10::Join(", ", shape) + "]";
    }
  }
  return text;
}

}  // namespace

// Whatever runs between the two calls on a thread that the first one's thread hands work to is recorded.
extern "C" char* fewstep_profiler_start(int cuda) {
  return guarded([&] {
    std::set<ActivityType> activities{ActivityType::CPU};
    if (cuda) {
      activities.insert(ActivityType::CUDA);
    }
    const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO,
                                                       /*report_input_shapes=*/true, /*profile_memory=*/true);
    hush_warnings();
    profiler::prepareProfiler(config, activities);
    profiler::enableProfiler(
        config, activities,
        {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION, at::RecordScope::USER_SCOPE});
  });
}

// The recording is freed with fewstep_recording_free.
extern "C" char* fewstep_profiler_stop(void** output) {
  return guarded([&] { *output = profiler::disableProfiler().release(); });
}

extern "C" void fewstep_recording_free(void* recording) { delete static_cast<Recording*>(recording); }

extern "C" char* fewstep_recording_each(const void* recording, void* context, void (*visit)(void*, const Event*)) {
  return guarded([&] {
    for (const auto& event : static_cast<const Recording*>(recording)->events()) {
      const std::string name = event.name();
      const std::string given = event.hasShapes() ? sizes(event) : std::string();
      const Event shown{
          name.c_str(),
          given.c_str(),
          what_is(event, name),
          event.deviceType() == c10::DeviceType::CPU ? -1 : event.deviceIndex(),
          event.startThreadId(),
          static_cast<int64_t>(event.startNs()),
          static_cast<int64_t>(event.endNs()),
          event.nBytes(),
      };
      visit(context, &shown);
    }
  });
}

// Null where nobody records; else it is ended by fewstep_span_end, on the same thread.
extern "C" char* fewstep_span_begin(const char* name, void** output) {
  return guarded([&] {
    *output = nullptr;
    if (auto callbacks = at::getStepCallbacksUnlessEmpty(at::RecordScope::USER_SCOPE)) {
      auto span = std::make_unique<at::RecordFunction>(std::move(*callbacks));
      span->before(std::string_view(name));
      *output = span.release();
    }
  });
}

extern "C" char* fewstep_span_end(void* span) {
  return guarded([&] { delete static_cast<at::RecordFunction*>(span); });
}
