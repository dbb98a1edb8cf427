// A piece of a graph that keeps its inputs only: what lies between is computed again on the way back.
#include "guard.h"

#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

using fewstep::guarded;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// The Rust closure: given `count` tensors it returns one, as a pointer that the caller owns, or a message.
using Call = char* (*)(void* closure, void* const* inputs, size_t count, void** output);
using Drop = void (*)(void* closure);

namespace {

// Owns the closure.
class Body {
 public:
  Body(void* closure, Call call, Drop drop) : closure_(closure), call_(call), drop_(drop) {}
  Body(const Body&) = delete;
  Body& operator=(const Body&) = delete;
  ~Body() { drop_(closure_); }

  at::Tensor operator()(std::vector<at::Tensor>& inputs) const {
    std::vector<void*> pointers;
    pointers.reserve(inputs.size());
    for (auto& input : inputs) {
      pointers.push_back(&input);
    }
    void* output = nullptr;
    if (char* message = call_(closure_, pointers.data(), pointers.size(), &output)) {
      std::string text(message);
      std::free(message);
      TORCH_CHECK(false, text);
    }
    // tch allocates its handles with new.
    std::unique_ptr<at::Tensor> owned(static_cast<at::Tensor*>(output));
    return *owned;
  }

 private:
  void* closure_;
  Call call_;
  Drop drop_;
};

// The state of the generator that operations on a device draw from, to draw the same again.
class Draws {
 public:
  explicit Draws(const at::Device& device) : generator_(at::globalContext().defaultGenerator(device)) {
    state_ = current();
  }

  // Sets the generator back to this state while it lives.
  class Replay {
   public:
    explicit Replay(Draws& draws) : draws_(draws), now_(draws.current()) { draws_.set(draws_.state_); }
    ~Replay() {
      try {
        draws_.set(now_);
      } catch (...) {
        // A state that was just read is accepted again.
      }
    }

   private:
    Draws& draws_;
    at::Tensor now_;
  };

 private:
  at::Tensor current() {
    std::lock_guard<std::mutex> lock(generator_.mutex());
    return generator_.get_state();
  }

  void set(const at::Tensor& state) {
    std::lock_guard<std::mutex> lock(generator_.mutex());
    generator_.set_state(state);
  }

  at::Generator generator_;
  at::Tensor state_;
};

class Recompute : public torch::autograd::Node {
 public:
  Recompute(std::shared_ptr<Body> body, const std::vector<at::Tensor>& inputs, Draws draws)
      : body_(std::move(body)), draws_(std::move(draws)) {
    for (const auto& input : inputs) {
      wants_.push_back(input.requires_grad());
      saved_.emplace_back(input, /*is_output=*/false);
    }
  }

  std::string name() const override { return "FewstepRecompute"; }

  void release_variables() override {
    saved_.clear();
    body_.reset();
  }

  variable_list apply(variable_list&& grads) override {
    TORCH_CHECK(body_, "a recomputed piece of a graph is asked for its gradients a second time");
    variable_list result(wants_.size());
    if (!grads[0].defined()) {
      return result;
    }
    std::vector<at::Tensor> inputs;
    for (size_t i = 0; i < saved_.size(); ++i) {
      inputs.push_back(saved_[i].unpack().detach().set_requires_grad(wants_[i]));
    }
    at::Tensor output;
    {
      c10::AutoGradMode grad_mode(true);
      Draws::Replay replay(draws_);
      output = (*body_)(inputs);
    }
    if (!output.requires_grad()) {
      return result;
    }
    variable_list wanted;
    std::vector<size_t> places;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (wants_[i] && task_should_compute_output(i)) {
        wanted.push_back(inputs[i]);
        places.push_back(i);
      }
    }
    if (wanted.empty()) {
      return result;
    }
    auto found = torch::autograd::grad({output}, wanted, {grads[0]}, /*retain_graph=*/false,
                                       /*create_graph=*/false, /*allow_unused=*/true);
    for (size_t i = 0; i < places.size(); ++i) {
      result[places[i]] = found[i];
    }
    return result;
  }

 private:
  std::shared_ptr<Body> body_;
  std::vector<SavedVariable> saved_;
  std::vector<bool> wants_;
  Draws draws_;
};

}  // namespace

// Takes the closure over, whatever happens. `output` gets a new handle.
extern "C" char* fewstep_recompute(
    void* const* inputs, size_t count, void* closure, Call call, Drop drop, void** output) {
  return guarded([&] {
    auto body = std::make_shared<Body>(closure, call, drop);
    std::vector<at::Tensor> list;
    bool wanted = false;
    for (size_t i = 0; i < count; ++i) {
      list.push_back(*static_cast<at::Tensor*>(inputs[i]));
      wanted = wanted || list.back().requires_grad();
    }
    wanted = wanted && c10::GradMode::is_enabled();
    std::optional<Draws> draws;
    if (wanted) {
      // Hollow tensors (rehearsal.cpp) have no generator of their own.
      draws.emplace(list[0].is_meta() ? at::Device(at::kCPU) : list[0].device());
    }
    at::Tensor result;
    {
      c10::NoGradGuard no_grad;
      result = (*body)(list);
    }
    if (wanted) {
      auto node = std::shared_ptr<Recompute>(new Recompute(body, list, std::move(*draws)),
                                             torch::autograd::deleteNode);
      node->set_next_edges(torch::autograd::collect_next_edges(list));
      // The body may have handed an input through, whose history is its own.
      result = result.detach();
      torch::autograd::set_history(result, node);
    }
    *output = new at::Tensor(std::move(result));
  });
}
