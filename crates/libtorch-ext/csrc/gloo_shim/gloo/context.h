// What ProcessGroupGloo.hpp must know of Gloo's connections: that there are some, and that they have a timeout.
#pragma once

#include <chrono>

namespace gloo {

// Only ever held by pointer here; its layout is LibTorch's affair.
class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

namespace transport {

class UnboundBuffer {
 public:
  virtual ~UnboundBuffer();
};

}  // namespace transport
}  // namespace gloo
