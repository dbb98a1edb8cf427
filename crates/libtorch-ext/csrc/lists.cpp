// Operations over whole lists of tensors: one call a training step instead of one a parameter.
#include "guard.h"

// One header an operator: all of them together take ten times as long to compile.
#include <ATen/core/Tensor.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>

#include <vector>

using fewstep::guarded;

namespace {

// tch hands a tensor over as a pointer to at::Tensor.
std::vector<at::Tensor> collect(void* const* tensors, size_t count) {
  std::vector<at::Tensor> list;
  list.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    list.push_back(*static_cast<at::Tensor*>(tensors[i]));
  }
  return list;
}

}  // namespace

extern "C" char* fewstep_fused_adamw(
    void* const* params, void* const* grads, void* const* exp_avgs, void* const* exp_avg_sqs,
    void* const* steps, size_t count, double lr, double beta1, double beta2, double weight_decay, double eps) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    at::_fused_adamw_(collect(params, count), collect(grads, count), collect(exp_avgs, count),
                      collect(exp_avg_sqs, count), {}, collect(steps, count), lr, beta1, beta2,
                      weight_decay, eps, /*amsgrad=*/false, /*maximize=*/false);
  });
}

extern "C" char* fewstep_lerp(void* const* to, void* const* from, size_t count, double weight) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    at::_foreach_lerp_(collect(to, count), collect(from, count), weight);
  });
}

extern "C" char* fewstep_scale(void* const* tensors, size_t count, void* factor) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    at::_foreach_mul_(collect(tensors, count), *static_cast<at::Tensor*>(factor));
  });
}

// `out` is an existing scalar tensor; the norm of norms is written into it.
extern "C" char* fewstep_global_norm(void* const* tensors, size_t count, void* out) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    auto norms = at::_foreach_norm(collect(tensors, count), 2);
    static_cast<at::Tensor*>(out)->copy_(at::linalg_vector_norm(at::stack(norms)));
  });
}
