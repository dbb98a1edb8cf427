// A convolution whose weight's gradient is one matrix product where there are few places and many channels: there
// oneDNN's own takes up to ten times as long.
#include "guard.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/as_strided.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/convolution_backward.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <array>
#include <memory>
#include <optional>
#include <utility>

using fewstep::guarded;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

namespace {

struct Geometry {
  int64_t stride;
  int64_t padding;
};

// Places up to which the matrix product is faster, by dtype: measured, see
// benchmarks/2026-11-24-weight-gradient.md.
int64_t few_places(at::ScalarType dtype) { return dtype == at::kFloat ? 256 : 1024; }

bool has_few_places(const at::Tensor& x, const at::Tensor& weight, const Geometry& geometry) {
  if (x.dim() != 4 || weight.dim() != 4) {
    return false;
  }
  int64_t places = x.size(0);
  for (int64_t axis : {2, 3}) {
    places *= (x.size(axis) + 2 * geometry.padding - weight.size(axis)) / geometry.stride + 1;
  }
  return places <= few_places(weight.scalar_type());
}

// d loss / d weight, [O, I, kh, kw]: the gradients of all places [O, L] times what each place sees [L, kh kw I].
at::Tensor weight_gradient(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& grad,
                           const Geometry& geometry) {
  const auto pad = geometry.padding;
  const auto stride = geometry.stride;
  const auto outputs = weight.size(0);
  const auto inputs = weight.size(1);
  const auto high = weight.size(2);
  const auto wide = weight.size(3);
  auto rows = x.permute({0, 2, 3, 1}).contiguous();
  if (pad != 0) {
    rows = at::constant_pad_nd(rows, {0, 0, pad, pad, pad, pad});
  }
  const auto steps = rows.strides();
  const auto seen = at::as_strided(
      rows, {x.size(0), grad.size(2), grad.size(3), high, wide, inputs},
      {steps[0], stride * steps[1], stride * steps[2], steps[1], steps[2], steps[3]});
  const auto found = at::matmul(grad.permute({1, 0, 2, 3}).reshape({outputs, -1}),
                                seen.reshape({-1, high * wide * inputs}));
  return found.view({outputs, high, wide, inputs}).permute({0, 3, 1, 2}).contiguous();
}

class Convolution : public torch::autograd::Node {
 public:
  Convolution(const at::Tensor& x, const at::Tensor& weight, bool has_bias, Geometry geometry)
      : x_(x, /*is_output=*/false), weight_(weight, /*is_output=*/false), has_bias_(has_bias), geometry_(geometry) {}

  std::string name() const override { return "FewstepConvolution"; }

  void release_variables() override {
    x_.reset_data();
    weight_.reset_data();
  }

  variable_list apply(variable_list&& grads) override {
    variable_list result(has_bias_ ? 3 : 2);
    const auto& grad = grads[0];
    if (!grad.defined()) {
      return result;
    }
    const auto x = x_.unpack();
    const auto weight = weight_.unpack();
    if (task_should_compute_output(0)) {
      const std::array<int64_t, 2> stride = {geometry_.stride, geometry_.stride};
      const std::array<int64_t, 2> padding = {geometry_.padding, geometry_.padding};
      result[0] = std::get<0>(at::convolution_backward(grad, x, weight, at::OptionalIntArrayRef(), stride, padding,
                                                       {1, 1}, /*transposed=*/false, {0, 0}, /*groups=*/1,
                                                       {true, false, false}));
    }
    if (task_should_compute_output(1)) {
      result[1] = weight_gradient(x, weight, grad, geometry_);
    }
    if (has_bias_ && task_should_compute_output(2)) {
      result[2] = grad.sum({0, 2, 3});
    }
    return result;
  }

 private:
  SavedVariable x_;
  SavedVariable weight_;
  bool has_bias_;
  Geometry geometry_;
};

}  // namespace

// `bias` may be null. `output` gets a new handle.
extern "C" char* fewstep_conv2d(void* input, void* weights, void* bias, int64_t stride, int64_t padding,
                                void** output) {
  return guarded([&] {
    const auto& x = *static_cast<at::Tensor*>(input);
    const auto& weight = *static_cast<at::Tensor*>(weights);
    std::optional<at::Tensor> shift;
    if (bias) {
      shift = *static_cast<at::Tensor*>(bias);
    }
    const Geometry geometry{stride, padding};
    const bool own = c10::GradMode::is_enabled() && weight.requires_grad() && (x.is_cpu() || x.is_meta()) &&
                     has_few_places(x, weight, geometry);
    at::Tensor result;
    if (own) {
      {
        c10::NoGradGuard no_grad;
        result = at::conv2d(x, weight, shift, {stride, stride}, {padding, padding});
      }
      auto node = std::shared_ptr<Convolution>(new Convolution(x, weight, shift.has_value(), geometry),
                                               torch::autograd::deleteNode);
      variable_list inputs = {x, weight};
      if (shift) {
        inputs.push_back(*shift);
      }
      node->set_next_edges(torch::autograd::collect_next_edges(inputs));
      torch::autograd::set_history(result, node);
    } else {
      result = at::conv2d(x, weight, shift, {stride, stride}, {padding, padding});
    }
    *output = new at::Tensor(std::move(result));
  });
}
