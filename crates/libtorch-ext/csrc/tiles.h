// Arithmetic over short runs of numbers that lie in the cache: what one sweep over memory is made of. It knows no
// tensors.
//
// tiles.cpp is compiled once for each set of instructions. It includes no header with inline functions, or the linker
// might pick a copy that the machine cannot run. All of its variants give the same bits.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fewstep {

// What AdamW multiplies with at one step of one parameter.
struct Coefficients {
  float decay;         // 1 - lr * weight_decay
  float beta1;
  float toward1;       // 1 - beta1
  float beta2;
  float toward2;       // 1 - beta2
  float root;          // sqrt(1 - beta2^step)
  float eps;
  float minus_step;    // -lr / (1 - beta1^step)
};

// A map of 256 numbers in [-1, 1] in ascending order. Rust builds it (map.rs) and lays it out alike.
struct Map {
  float values[256];
  float bounds[256];      // between the values; the last is infinite
  uint8_t first[0xbf81];  // the least code of the numbers whose upper 16 bits are the index
};

struct Tiles {
  // to = factor * from, of f32, bf16 and f16.
  void (*scale)(float* to, const float* from, float factor, size_t n);
  void (*scale_bf16)(float* to, const uint16_t* from, float factor, size_t n);
  void (*scale_f16)(float* to, const uint16_t* from, float factor, size_t n);
  // Rounds to the nearest, ties to even.
  void (*to_bf16)(uint16_t* to, const float* from, size_t n);
  void (*to_f16)(uint16_t* to, const float* from, size_t n);
  // AdamW with LibTorch's rounding, and with that of bitsandbytes' blockwise optimiser: they write the same average
  // in two ways.
  void (*adamw)(float* p, float* m, float* v, const float* g, const Coefficients& c, size_t n);
  void (*adamw_blockwise)(float* p, float* m, float* v, const float* g, const Coefficients& c, size_t n);
  // to = to + weight * (from - to)
  void (*lerp)(float* to, const float* from, float weight, size_t n);
  float (*sum_of_squares)(const float* x, size_t n);
  // A block of 8-bit numbers, and back; `encode` returns the largest absolute value.
  void (*decode)(float* to, const uint8_t* codes, float absmax, const Map& map, size_t n);
  float (*encode)(uint8_t* codes, const float* from, const Map& map, size_t n);
};

extern const Tiles tiles_plain;
#ifdef FEWSTEP_X86
extern const Tiles tiles_avx2;
extern const Tiles tiles_avx512;
#endif

}  // namespace fewstep
