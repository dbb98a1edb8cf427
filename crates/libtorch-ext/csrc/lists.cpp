// Operations over whole lists of tensors: one call a training step instead of one a parameter.
#include "guard.h"

// One header an operator: all of them together take ten times as long to compile.
#include <ATen/core/Tensor.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_foreach_sub.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>

#include <optional>
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

// `skip` is null or a scalar of 1 (nothing happens) or 0 on the tensors' device. The kernel wants the steps
// counted up before it; an update that it skips is counted down again, all without asking the device.
extern "C" char* fewstep_fused_adamw(
    void* const* params, void* const* grads, void* const* exp_avgs, void* const* exp_avg_sqs,
    void* const* steps, size_t count, double lr, double beta1, double beta2, double weight_decay, double eps,
    void* skip) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    const auto counts = collect(steps, count);
    std::optional<at::Tensor> found_inf;
    if (skip != nullptr) {
      found_inf = *static_cast<at::Tensor*>(skip);
    }
    at::_foreach_add_(counts, 1);
    at::_fused_adamw_(collect(params, count), collect(grads, count), collect(exp_avgs, count),
                      collect(exp_avg_sqs, count), {}, counts, lr, beta1, beta2, weight_decay, eps,
                      /*amsgrad=*/false, /*maximize=*/false, /*grad_scale=*/{}, found_inf);
    if (found_inf) {
      at::_foreach_sub_(counts, std::vector<at::Tensor>(count, *found_inf));
    }
  });
}

extern "C" char* fewstep_lerp(void* const* to, void* const* from, size_t count, double weight) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    at::_foreach_lerp_(collect(to, count), collect(from, count), weight);
  });
}

// The same with the weight a scalar tensor. The list operator would want one as large as each tensor.
extern "C" char* fewstep_lerp_by(void* const* to, void* const* from, size_t count, void* weight) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    const auto& by = *static_cast<at::Tensor*>(weight);
    for (size_t i = 0; i < count; ++i) {
      static_cast<at::Tensor*>(to[i])->lerp_(*static_cast<at::Tensor*>(from[i]), by);
    }
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
