// Groups over NCCL, without a header or a library of CUDA's.
//
// ProcessGroupNCCL.hpp wants the headers of CUDA, NCCL and half a dozen libraries, and naming the class would link every
// program against libtorch_cuda. But all that is used of such a group is c10d::Backend, whose header is here; only to
// make one takes more. So the two constructors are looked up by name in the library that is loaded at run time, and run
// in memory that is larger than the objects. Their names carry their parameters' types: another LibTorch, in which
// those have changed, has no such name, and that is said.
#include "handles.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include <dlfcn.h>

#include <chrono>
#include <cstring>
#include <new>

namespace {

// In LibTorch 2.11 the objects take 1112 and 248 bytes (`sizeof` with its headers). LibTorch frees them with
// operator delete.
constexpr size_t kGroupBytes = 16384;
constexpr size_t kOptionsBytes = 4096;

constexpr const char* kMakeOptions = "_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb";
constexpr const char* kMakeGroup =
    "_ZN4c10d16ProcessGroupNCCLC1EN3c1013intrusive_ptrINS_5StoreENS1_6detail34intrusive_target_default_null_typeIS3_EEEE"
    "iiNS2_INS0_7OptionsENS5_IS8_EEEE";

using Store = c10::intrusive_ptr<c10d::Store>;
// Counted pointers are passed by the address of a copy, whatever they point to.
using Options = c10::intrusive_ptr<c10d::Backend::Options>;

template <typename Constructor>
Constructor find(const char* name) {
  auto* found = dlsym(RTLD_DEFAULT, name);
  TORCH_CHECK(found != nullptr, "NCCL groups are not to be had from this LibTorch: it was set up without CUDA, or is not 2.11");
  return reinterpret_cast<Constructor>(found);
}

// Memory for an object whose constructor may throw.
class Room {
 public:
  explicit Room(size_t bytes) : start_(::operator new(bytes)) { std::memset(start_, 0, bytes); }
  ~Room() { ::operator delete(start_); }
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;

  void* start() const { return start_; }
  // The object is there: its pointer counts from now on, and frees the memory.
  template <typename Base>
  c10::intrusive_ptr<Base> occupied() {
    auto* object = static_cast<Base*>(start_);
    start_ = nullptr;
    return c10::intrusive_ptr<Base>::unsafe_steal_from_new(object);
  }

 private:
  void* start_;
};

}  // namespace

c10::intrusive_ptr<c10d::Backend> fewstep::nccl_group(
    const Store& store, int rank, int size, std::chrono::milliseconds timeout) {
  auto make_options = find<void (*)(void*, bool)>(kMakeOptions);
  auto make_group = find<void (*)(void*, Store, int, int, Options)>(kMakeGroup);
  Room options_room(kOptionsBytes);
  make_options(options_room.start(), false);
  auto options = options_room.occupied<c10d::Backend::Options>();
  options->timeout = timeout;
  Room group_room(kGroupBytes);
  make_group(group_room.start(), store, rank, size, options);
  return group_room.occupied<c10d::Backend>();
}
