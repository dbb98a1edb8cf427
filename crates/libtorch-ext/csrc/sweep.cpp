// The whole update of a network in one sweep over memory, on the CPU: gradients in, weights, moments, moving average
// and copies out. What a tile's arithmetic is, tiles.h says; here lie the tensors, their checks, and the threads.
#include "guard.h"
#include "tiles.h"

#include <ATen/Parallel.h>
#include <ATen/TensorIterator.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <atomic>
#include <cmath>
#include <vector>

using fewstep::Coefficients;
using fewstep::guarded;
using fewstep::Map;
using fewstep::Tiles;

// One parameter: pointers to at::Tensor; those from `absmax` to `exp_avg_sq_absmax` and the last three may be null.
// Rust lays it out alike.
struct FewstepPart {
  void* param;
  void* gradient;
  void* step;
  void* exp_avg;
  void* exp_avg_sq;
  void* exp_avg_absmax;
  void* exp_avg_sq_absmax;
  void* copy;
  void* average;
  void* average_copy;
};

namespace {

constexpr size_t BLOCK = 256;
// Numbers that pass through the cache together: five runs of f32 stay within its first level.
constexpr size_t TILE = 1024;
// Numbers that a thread takes at a time.
constexpr size_t SPAN = 64 * TILE;

// The set of instructions that LibTorch uses: the machine's, or what ATEN_CPU_CAPABILITY says.
const Tiles& tiles() {
#ifdef FEWSTEP_X86
  static const Tiles& chosen = [&]() -> const Tiles& {
    const auto capability = at::get_cpu_capability();
    if (capability == "AVX512") return fewstep::tiles_avx512;
    return capability == "AVX2" ? fewstep::tiles_avx2 : fewstep::tiles_plain;
  }();
  return chosen;
#else
  return fewstep::tiles_plain;
#endif
}

const at::Tensor& tensor(void* pointer) { return *static_cast<at::Tensor*>(pointer); }

// The memory of a tensor that holds `n` numbers of `kind` one after the other.
template <typename T>
T* memory(void* pointer, at::ScalarType kind, size_t n, const char* what) {
  if (pointer == nullptr) return nullptr;
  const auto& t = tensor(pointer);
  TORCH_CHECK(t.device().is_cpu() && t.is_contiguous(), what, " must be contiguous and on the CPU");
  TORCH_CHECK(t.scalar_type() == kind, what, " is ", t.scalar_type(), ", but must be ", kind);
  TORCH_CHECK(static_cast<size_t>(t.numel()) == n, what, " has ", t.numel(), " numbers, but ", n, " are wanted");
  return static_cast<T*>(t.data_ptr());
}

// Numbers of f32, bf16 or f16.
struct Floats {
  void* data = nullptr;
  at::ScalarType kind = at::kFloat;

  Floats() = default;
  Floats(void* pointer, size_t n, const char* what) {
    if (pointer == nullptr) return;
    kind = tensor(pointer).scalar_type();
    TORCH_CHECK(kind == at::kFloat || kind == at::kBFloat16 || kind == at::kHalf, what, " is ", kind,
                ", but must be Float, BFloat16 or Half");
    data = memory<void>(pointer, kind, n, what);
  }

  void read(const Tiles& t, float* to, size_t begin, float factor, size_t n) const {
    const auto* half = static_cast<const uint16_t*>(data) + begin;
    switch (kind) {
      case at::kBFloat16: return t.scale_bf16(to, half, factor, n);
      case at::kHalf: return t.scale_f16(to, half, factor, n);
      default: return t.scale(to, static_cast<const float*>(data) + begin, factor, n);
    }
  }

  void write(const Tiles& t, const float* from, size_t begin, size_t n) const {
    auto* half = static_cast<uint16_t*>(data) + begin;
    switch (kind) {
      case at::kBFloat16: return t.to_bf16(half, from, n);
      case at::kHalf: return t.to_f16(half, from, n);
      default: return t.scale(static_cast<float*>(data) + begin, from, 1.0f, n);
    }
  }
};

struct Options {
  double lr, beta1, beta2, weight_decay, eps;
};

struct Part {
  size_t n;
  float* param;
  Floats gradient;
  float* step;
  // The moments: f32, or codes with the largest value of each block.
  float *exp_avg = nullptr, *exp_avg_sq = nullptr;
  uint8_t *codes = nullptr, *codes_sq = nullptr;
  float *absmax = nullptr, *absmax_sq = nullptr;
  Floats copy;
  float* average;
  Floats average_copy;
  Coefficients coefficients{};

  explicit Part(const FewstepPart& from)
      : n(static_cast<size_t>(tensor(from.param).numel())),
        param(memory<float>(from.param, at::kFloat, n, "a weight")),
        gradient(from.gradient, n, "a gradient"),
        step(memory<float>(from.step, at::kFloat, 1, "a count of steps")),
        copy(from.copy, n, "a copy of a weight"),
        average(memory<float>(from.average, at::kFloat, n, "an average")),
        average_copy(from.average_copy, n, "a copy of an average") {
    if (from.exp_avg_absmax == nullptr) {
      exp_avg = memory<float>(from.exp_avg, at::kFloat, n, "a first moment");
      exp_avg_sq = memory<float>(from.exp_avg_sq, at::kFloat, n, "a second moment");
      return;
    }
    const size_t blocks = (n + BLOCK - 1) / BLOCK;
    codes = memory<uint8_t>(from.exp_avg, at::kByte, n, "a first moment in 8 bits");
    codes_sq = memory<uint8_t>(from.exp_avg_sq, at::kByte, n, "a second moment in 8 bits");
    absmax = memory<float>(from.exp_avg_absmax, at::kFloat, blocks, "a first moment's scale");
    absmax_sq = memory<float>(from.exp_avg_sq_absmax, at::kFloat, blocks, "a second moment's scale");
  }

  void count_step(const Options& o) {
    *step += 1.0f;
    const double correction1 = 1.0 - std::pow(o.beta1, *step);
    const double correction2 = 1.0 - std::pow(o.beta2, *step);
    coefficients = Coefficients{
        .decay = static_cast<float>(1.0 - o.lr * o.weight_decay),
        .beta1 = static_cast<float>(o.beta1),
        .toward1 = static_cast<float>(1.0 - o.beta1),
        .beta2 = static_cast<float>(o.beta2),
        .toward2 = static_cast<float>(1.0 - o.beta2),
        .root = static_cast<float>(std::sqrt(correction2)),
        .eps = static_cast<float>(o.eps),
        .minus_step = static_cast<float>(-o.lr / correction1),
    };
  }
};

struct Span {
  size_t part, begin, end;
};

// All parts, cut where a thread may take over. A span begins at a block.
template <typename Parts>
std::vector<Span> spans(const Parts& parts) {
  std::vector<Span> all;
  for (size_t i = 0; i < parts.size(); ++i) {
    for (size_t begin = 0; begin < parts[i].n; begin += SPAN) {
      all.push_back({i, begin, std::min(begin + SPAN, parts[i].n)});
    }
  }
  return all;
}

// Runs `body(i)` for each i below `count` on LibTorch's threads, each taking the next that is left. The threads are
// reached through an iterator over one number a thread: at::parallel_for itself is a header's function, and would
// bring a second OpenMP with it.
template <typename Body>
void share(size_t count, const Body& body) {
  std::atomic<size_t> next{0};
  const auto threads = std::min<int64_t>(at::get_num_threads(), static_cast<int64_t>(count));
  auto one_a_thread = at::empty({threads}, at::kByte);
  auto iterator = at::TensorIterator::borrowing_nullary_op(one_a_thread);
  iterator.for_each(
      [&](char**, const int64_t*, int64_t) {
        for (size_t i = next++; i < count; i = next++) body(i);
      },
      /*grain_size=*/1);
}

// The tiles of a span, for `body(begin, n)`.
template <typename Body>
void each_tile(const Span& span, const Body& body) {
  for (size_t begin = span.begin; begin < span.end; begin += TILE) body(begin, std::min(TILE, span.end - begin));
}

// The moments of a tile, from 8 bits and back.
struct Maps {
  const Map &plain, &square;

  void decode(const Tiles& t, const Part& part, size_t begin, size_t n, float* m, float* v) const {
    for (size_t i = 0; i < n; i += BLOCK) {
      const size_t at = begin + i, length = std::min(BLOCK, n - i);
      t.decode(m + i, part.codes + at, part.absmax[at / BLOCK], plain, length);
      t.decode(v + i, part.codes_sq + at, part.absmax_sq[at / BLOCK], square, length);
    }
  }

  void encode(const Tiles& t, const Part& part, size_t begin, size_t n, const float* m, const float* v) const {
    for (size_t i = 0; i < n; i += BLOCK) {
      const size_t at = begin + i, length = std::min(BLOCK, n - i);
      part.absmax[at / BLOCK] = t.encode(part.codes + at, m + i, plain, length);
      part.absmax_sq[at / BLOCK] = t.encode(part.codes_sq + at, v + i, square, length);
    }
  }
};

void update(const Part& part, const Span& span, float factor, float weight, const Maps& maps) {
  const Tiles& t = tiles();
  float g[TILE], m[TILE], v[TILE];
  each_tile(span, [&](size_t begin, size_t n) {
    float* p = part.param + begin;
    part.gradient.read(t, g, begin, factor, n);
    if (part.codes == nullptr) {
      t.adamw(p, part.exp_avg + begin, part.exp_avg_sq + begin, g, part.coefficients, n);
    } else {
      maps.decode(t, part, begin, n, m, v);
      t.adamw_blockwise(p, m, v, g, part.coefficients, n);
      maps.encode(t, part, begin, n, m, v);
    }
    if (part.copy.data != nullptr) part.copy.write(t, p, begin, n);
    if (part.average != nullptr) t.lerp(part.average + begin, p, weight, n);
    if (part.average_copy.data != nullptr) part.average_copy.write(t, part.average + begin, begin, n);
  });
}

}  // namespace

extern "C" char* fewstep_sweep(const FewstepPart* parts, size_t count, double lr, double beta1, double beta2,
                               double weight_decay, double eps, double average_weight, void* factor, void* skip,
                               const Map* map, const Map* square_map) {
  return guarded([&] {
    std::vector<Part> list(parts, parts + count);
    const float scale = *memory<float>(factor, at::kFloat, 1, "the gradients' factor");
    if (*memory<float>(skip, at::kFloat, 1, "the flag that skips an update") != 0.0f) return;
    for (auto& part : list) part.count_step({lr, beta1, beta2, weight_decay, eps});
    const auto work = spans(list);
    const Maps maps{*map, *square_map};
    share(work.size(), [&](size_t i) {
      update(list[work[i].part], work[i], scale, static_cast<float>(average_weight), maps);
    });
  });
}

// The same on any number of threads: partial sums are added in their order.
extern "C" char* fewstep_norm(void* const* tensors, size_t count, void* out) {
  return guarded([&] {
    struct Values {
      size_t n;
      Floats floats;
    };
    std::vector<Values> list;
    for (size_t i = 0; i < count; ++i) {
      const auto n = static_cast<size_t>(tensor(tensors[i]).numel());
      list.push_back({n, Floats(tensors[i], n, "a gradient")});
    }
    const auto work = spans(list);
    std::vector<double> sums(work.size());
    share(work.size(), [&](size_t i) {
      const Tiles& t = tiles();
      const auto& floats = list[work[i].part].floats;
      float x[TILE];
      each_tile(work[i], [&](size_t begin, size_t n) {
        if (floats.kind == at::kFloat) {
          sums[i] += t.sum_of_squares(static_cast<const float*>(floats.data) + begin, n);
        } else {
          floats.read(t, x, begin, 1.0f, n);
          sums[i] += t.sum_of_squares(x, n);
        }
      });
    });
    double sum = 0.0;
    for (const double part : sums) sum += part;
    *memory<float>(out, at::kFloat, 1, "the norm") = static_cast<float>(std::sqrt(sum));
  });
}
