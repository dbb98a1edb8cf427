// Who counts the bytes of tensors on this thread. meter.cpp counts real ones, rehearsal.cpp hollow ones.
#pragma once

#include <cstdint>

namespace fewstep {

// Which tensors a meter counts.
enum class Counted : int { cpu = 0, hollow = 1 };

// Tells the meters of this thread that tensors have grown by so many bytes, or shrunk.
void tell_meters(Counted what, int64_t bytes) noexcept;

// Tells them of working memory that a kernel takes on top for a moment.
void tell_meters_of_working_memory(Counted what, int64_t bytes) noexcept;

}  // namespace fewstep
