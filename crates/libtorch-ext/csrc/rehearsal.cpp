// Tensors with a shape and a dtype and no memory (LibTorch's "meta" device), counted as if they had some. LibTorch's
// C++ half has no kernels for a few operators there; they follow, with the results of the CPU's kernels. Each says how
// much working memory the CPU's takes on top, where that is much.
#include "guard.h"
#include "meter.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/Allocator.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

using fewstep::Counted;
using fewstep::guarded;

namespace {

// Gives no memory, and counts what it was asked for.
class HollowAllocator : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    fewstep::tell_meters(Counted::hollow, static_cast<int64_t>(bytes));
    return {nullptr, new size_t(bytes), &forget, c10::Device(c10::DeviceType::Meta)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void*, const void*, size_t) const override {}

 private:
  static void forget(void* context) {
    std::unique_ptr<size_t> bytes(static_cast<size_t*>(context));
    fewstep::tell_meters(Counted::hollow, -static_cast<int64_t>(*bytes));
  }
};

int64_t bytes_of(const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); }

void work(int64_t bytes) { fewstep::tell_meters_of_working_memory(Counted::hollow, bytes); }

bool is_channels_last(const at::Tensor& tensor) {
  return tensor.suggest_memory_format() == at::MemoryFormat::ChannelsLast;
}

using MaybeTensor = std::optional<at::Tensor>;
using Three = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight, const MaybeTensor&, at::IntArrayRef stride,
                       at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef, int64_t) {
  TORCH_CHECK(!transposed, "a transposed convolution is not rehearsed");
  std::vector<int64_t> sizes{input.size(0), weight.size(0)};
  for (int64_t i = 0; i < input.dim() - 2; ++i) {
    const auto of = [i](at::IntArrayRef list) { return list.size() == 1 ? list[0] : list[i]; };
    const auto reach = of(dilation) * (weight.size(i + 2) - 1) + 1;
    sizes.push_back((input.size(i + 2) + 2 * of(padding) - reach) / of(stride) + 1);
  }
  const bool last = is_channels_last(input) || is_channels_last(weight);
  auto output =
      at::empty(sizes, input.options(), last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
  // oneDNN works in an order of its own: it copies the weight, and but for channels that are outermost already the
  // two maps.
  work(bytes_of(weight) + (last ? 0 : bytes_of(input) + bytes_of(output)));
  return output;
}

Three convolution_backward(const at::Tensor& grad, const at::Tensor& input, const at::Tensor& weight,
                           at::OptionalIntArrayRef, at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, bool,
                           at::IntArrayRef, int64_t, std::array<bool, 3> wanted) {
  const bool last = is_channels_last(input) || is_channels_last(weight);
  const auto format = last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  at::Tensor of_input, of_weight, of_bias;
  const int64_t maps = last ? 0 : bytes_of(input) + bytes_of(grad);
  if (wanted[0]) {
    of_input = at::empty(input.sizes(), grad.options(), format);
    work(bytes_of(weight) + maps);
  }
  if (wanted[1] || wanted[2]) {
    of_weight = at::empty(weight.sizes(), grad.options(), format);
    of_bias = at::empty({weight.size(0)}, grad.options());
    // In 16 bits it pads the input besides.
    work(bytes_of(weight) + maps + (input.element_size() < 4 ? bytes_of(input) : 0));
  }
  return {of_input, wanted[1] ? of_weight : at::Tensor(), wanted[2] ? of_bias : at::Tensor()};
}

at::Tensor like(const at::Tensor& tensor, bool wanted = true) { return wanted ? at::empty_like(tensor) : at::Tensor(); }

Three native_group_norm(const at::Tensor& input, const MaybeTensor&, const MaybeTensor&, int64_t batch, int64_t,
                        int64_t, int64_t groups, double) {
  const auto statistic = [&] { return at::empty({batch, groups}, input.options()); };
  return {like(input), statistic(), statistic()};
}

Three native_group_norm_backward(const at::Tensor&, const at::Tensor& input, const at::Tensor&, const at::Tensor&,
                                 const MaybeTensor&, int64_t, int64_t channels, int64_t, int64_t,
                                 std::array<bool, 3> wanted) {
  const auto parameter = [&](bool is) { return is ? at::empty({channels}, input.options()) : at::Tensor(); };
  return {like(input, wanted[0]), parameter(wanted[1]), parameter(wanted[2])};
}

Three native_layer_norm(const at::Tensor& input, at::IntArrayRef shape, const MaybeTensor&, const MaybeTensor&,
                        double) {
  std::vector<int64_t> sizes = input.sizes().vec();
  for (size_t i = 0; i < shape.size(); ++i) {
    sizes[sizes.size() - 1 - i] = 1;
  }
  const auto statistic = [&] { return at::empty(sizes, input.options()); };
  return {at::empty(input.sizes(), input.options()), statistic(), statistic()};
}

Three native_layer_norm_backward(const at::Tensor&, const at::Tensor& input, at::IntArrayRef shape, const at::Tensor&,
                                 const at::Tensor&, const MaybeTensor&, const MaybeTensor&,
                                 std::array<bool, 3> wanted) {
  const auto parameter = [&](bool is) { return is ? at::empty(shape, input.options()) : at::Tensor(); };
  auto of_input = wanted[0] ? at::empty(input.sizes(), input.options()) : at::Tensor();
  return {of_input, parameter(wanted[1]), parameter(wanted[2])};
}

// [B, heads, N, d], with the heads inside in memory.
at::Tensor heads_inside(const at::Tensor& like) {
  return at::empty({like.size(0), like.size(2), like.size(1), like.size(3)}, like.options()).transpose(1, 2);
}

// What each thread of the CPU's kernel has beside it: `matrices` of scores between some queries and some keys, in f32
// and for 16-bit maps in their dtype too.
at::Tensor scores(const at::Tensor& query, const at::Tensor& key, int64_t matrices) {
  const auto queries = query.size(2) >= 768 ? 256 : query.size(2) >= 192 ? 64 : 32;
  const auto numbers = matrices * std::min<int64_t>(queries, query.size(2)) * std::min<int64_t>(512, key.size(2));
  const auto bytes = numbers * (query.element_size() < 4 ? 4 + query.element_size() : query.element_size());
  return at::empty({at::get_num_threads(), bytes}, query.options().dtype(at::kByte));
}

std::tuple<at::Tensor, at::Tensor> flash_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor&,
                                                   double, bool, const MaybeTensor&, std::optional<double>) {
  const auto sums = query.options().dtype(query.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  const auto beside = scores(query, key, 1);
  return {heads_inside(query), at::empty({query.size(0), query.size(2), query.size(1)}, sums).transpose(1, 2)};
}

Three flash_attention_backward(const at::Tensor&, const at::Tensor& query, const at::Tensor& key,
                               const at::Tensor& value, const at::Tensor&, const at::Tensor&, double, bool,
                               const MaybeTensor&, std::optional<double>) {
  const auto beside = scores(query, key, 2);
  return {heads_inside(query), heads_inside(key), heads_inside(value)};
}

// Without this LibTorch would take its fallback, which holds the whole matrix of queries by keys. It is registered
// above autograd, and calls an operator that autograd knows.
at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const MaybeTensor& mask,
                     double dropout, bool causal, std::optional<double> scale, bool) {
  return std::get<0>(
      at::_scaled_dot_product_flash_attention_for_cpu(query, key, value, dropout, causal, mask, scale));
}

at::Tensor index_select(const at::Tensor& table, int64_t dim, const at::Tensor& rows) {
  auto sizes = table.sizes().vec();
  sizes[dim] = rows.numel();
  return at::empty(sizes, table.options());
}

at::Tensor& bernoulli_(at::Tensor& self, double, std::optional<at::Generator>) { return self; }

// Once, when the first hollow tensor is made.
bool prepare() {
  // They live as long as the process: tensors may outlive everything else.
  c10::SetAllocator(c10::DeviceType::Meta, new HollowAllocator, /*priority=*/1);
  const auto library = [](c10::DispatchKey key) {
    return new torch::Library(torch::Library::IMPL, "aten", key, __FILE__, __LINE__);
  };
  auto& meta = *library(c10::DispatchKey::Meta);
  meta.impl("convolution", TORCH_FN(convolution));
  meta.impl("convolution_backward", TORCH_FN(convolution_backward));
  meta.impl("native_group_norm", TORCH_FN(native_group_norm));
  meta.impl("native_group_norm_backward", TORCH_FN(native_group_norm_backward));
  meta.impl("native_layer_norm", TORCH_FN(native_layer_norm));
  meta.impl("native_layer_norm_backward", TORCH_FN(native_layer_norm_backward));
  meta.impl("_scaled_dot_product_flash_attention_for_cpu", TORCH_FN(flash_attention));
  meta.impl("_scaled_dot_product_flash_attention_for_cpu_backward", TORCH_FN(flash_attention_backward));
  meta.impl("index_select", TORCH_FN(index_select));
  meta.impl("bernoulli_.float", TORCH_FN(bernoulli_));
  library(c10::DispatchKey::AutogradMeta)->impl("scaled_dot_product_attention", TORCH_FN(attention));
  return true;
}

}  // namespace

// A hollow tensor of the dtype of `like`. `output` gets a new handle.
extern "C" char* fewstep_hollow(const int64_t* sizes, size_t count, void* like, void** output) {
  return guarded([&] {
    static const bool prepared = prepare();
    (void)prepared;
    const auto options = static_cast<at::Tensor*>(like)->options().device(at::kMeta);
    *output = new at::Tensor(at::empty(at::IntArrayRef(sizes, count), options));
  });
}
