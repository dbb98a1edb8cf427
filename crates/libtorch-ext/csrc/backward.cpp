// A backward pass that hands each leaf's gradient over as soon as it is complete, while the pass goes on.
#include "guard.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstdlib>
#include <string>
#include <vector>

using fewstep::guarded;

// The Rust closure: takes a gradient's handle over, and returns null or a message.
using Take = char* (*)(void* closure, size_t leaf, void* gradient);

namespace {

// Hooks that are taken off again, however the pass ends.
class Hooks {
 public:
  void add(const at::Tensor& leaf, unsigned hook) { hooks_.emplace_back(leaf, hook); }
  ~Hooks() {
    for (auto& [leaf, hook] : hooks_) {
      leaf.remove_hook(hook);
    }
  }

 private:
  std::vector<std::pair<at::Tensor, unsigned>> hooks_;
};

}  // namespace

extern "C" char* fewstep_backward_each(void* loss, void* const* leaves, size_t count, void* closure, Take take) {
  return guarded([&] {
    std::vector<at::Tensor> wanted;
    Hooks hooks;
    for (size_t i = 0; i < count; ++i) {
      const auto& leaf = *static_cast<at::Tensor*>(leaves[i]);
      wanted.push_back(leaf);
      hooks.add(leaf, leaf.register_hook([closure, take, i](const at::Tensor& gradient) {
        if (char* message = take(closure, i, new at::Tensor(gradient))) {
          std::string text(message);
          std::free(message);
          TORCH_CHECK(false, text);
        }
        // Autograd keeps what a hook returns until the pass is over: a gradient of one number instead of the whole.
        return at::zeros({}, gradient.options()).expand(gradient.sizes());
      }));
    }
    torch::autograd::grad({*static_cast<at::Tensor*>(loss)}, wanted, {}, /*retain_graph=*/false,
                          /*create_graph=*/false, /*allow_unused=*/true);
  });
}
