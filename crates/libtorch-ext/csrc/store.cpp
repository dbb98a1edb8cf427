// LibTorch's TCPStore: keys and values that processes share, served by one of them.
#include "guard.h"
#include "handles.h"

#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

using fewstep::guarded;
using fewstep::StoreHandle;

C10_DECLARE_int(caffe2_log_level);

namespace {

// What goes wrong is told by whoever asked: LibTorch's own words about it, with backtraces, would come
// between. An environment that asks for them gets them.
void be_quiet() {
  constexpr int kFatal = 3;
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) {
    FLAGS_caffe2_log_level = std::max(FLAGS_caffe2_log_level, kFatal);
  }
}

}  // namespace

// A negative `listen_fd` is none. `port` may be 0 for the one who serves.
extern "C" char* fewstep_store_open(const char* host, uint16_t port, int serves, int64_t timeout_ms, void** output) {
  return guarded([&] {
    be_quiet();
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = serves != 0;
    // Who has come is counted by the one who waits, so that it can say who has not.
    options.waitWorkers = false;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    *output = new StoreHandle{c10::make_intrusive<c10d::TCPStore>(host, options)};
  });
}

extern "C" char* fewstep_store_clone(void* store, void** output) {
  return guarded([&] { *output = new StoreHandle{StoreHandle::of(store)->clone()}; });
}

extern "C" uint16_t fewstep_store_port(void* store) {
  return static_cast<c10d::TCPStore&>(*StoreHandle::of(store)).getPort();
}

extern "C" char* fewstep_store_set(void* store, const char* key, const uint8_t* bytes, size_t count) {
  return guarded([&] { StoreHandle::of(store)->set(key, std::vector<uint8_t>(bytes, bytes + count)); });
}

// Waits for the key first. The bytes are the caller's, to be freed with fewstep_bytes_free.
extern "C" char* fewstep_store_get(void* store, const char* key, int64_t timeout_ms, uint8_t** bytes, size_t* count) {
  return guarded([&] {
    auto& keys = *StoreHandle::of(store);
    keys.wait({key}, std::chrono::milliseconds(timeout_ms));
    const auto value = keys.get(key);
    *bytes = static_cast<uint8_t*>(std::malloc(value.size() + 1));
    TORCH_CHECK(*bytes != nullptr, "out of memory");
    std::memcpy(*bytes, value.data(), value.size());
    *count = value.size();
  });
}

extern "C" void fewstep_bytes_free(uint8_t* bytes) { std::free(bytes); }

extern "C" char* fewstep_store_has(void* store, const char* key, int* output) {
  return guarded([&] { *output = StoreHandle::of(store)->check({key}) ? 1 : 0; });
}

extern "C" char* fewstep_store_add(void* store, const char* key, int64_t number, int64_t* output) {
  return guarded([&] { *output = StoreHandle::of(store)->add(key, number); });
}

extern "C" char* fewstep_store_delete(void* store, const char* key) {
  return guarded([&] { StoreHandle::of(store)->deleteKey(key); });
}

extern "C" char* fewstep_store_free(void* store) {
  return guarded([&] { delete static_cast<StoreHandle*>(store); });
}
