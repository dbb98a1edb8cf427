// What ProcessGroupGloo.hpp must know of Gloo's network devices: that there are some.
#pragma once

namespace gloo {
namespace transport {

class Device;

}  // namespace transport
}  // namespace gloo
