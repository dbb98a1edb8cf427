// The loops of tiles.h, plain, for the compiler to make wide. FEWSTEP_TILES names the variant.
//
// A product is fused with a sum where `fma` says so and nowhere else (-ffp-contract=off): so do LibTorch's kernels.
#include "tiles.h"

namespace {

using fewstep::Coefficients;
using fewstep::Map;

constexpr size_t LANES = 32;
constexpr size_t BLOCK = 256;

inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

inline uint32_t bits(float x) {
  uint32_t b;
  __builtin_memcpy(&b, &x, 4);
  return b;
}

inline float from_bits(uint32_t b) {
  float x;
  __builtin_memcpy(&x, &b, 4);
  return x;
}

inline float widen_f16(uint16_t half) {
  const uint32_t rest = (half & 0x7fffu) << 13;
  // The exponent's bias differs by 112; a multiplication serves denormal numbers too.
  const uint32_t number = bits(from_bits(rest) * 0x1p112f);
  const uint32_t infinite = (half & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;
  return from_bits(number | infinite | (static_cast<uint32_t>(half & 0x8000u) << 16));
}

inline uint16_t narrow_f16(float x) {
  const uint32_t sign = (bits(x) >> 16) & 0x8000u;
  const uint32_t rest = bits(x) & 0x7fffffffu;
  // Normal halves: round the lower 13 bits. Denormal ones: let an addition round.
  const uint32_t normal = (rest - 0x38000000u + 0xfffu + ((rest >> 13) & 1u)) >> 13;
  const uint32_t small = bits(from_bits(rest) + 0.5f) - 0x3f000000u;
  const uint32_t finite = rest < 0x38800000u ? small : normal;
  const uint32_t infinite = rest > 0x7f800000u ? 0x7e00u : 0x7c00u;
  return static_cast<uint16_t>(sign | (rest >= 0x47800000u ? infinite : finite));
}

inline uint16_t narrow_bf16(float x) {
  const uint32_t b = bits(x);
  const uint32_t rounded = (b + 0x7fffu + ((b >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>((b & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

void scale(float* __restrict to, const float* __restrict from, float factor, size_t n) {
  for (size_t i = 0; i < n; ++i) to[i] = from[i] * factor;
}

void scale_bf16(float* __restrict to, const uint16_t* __restrict from, float factor, size_t n) {
  for (size_t i = 0; i < n; ++i) to[i] = from_bits(static_cast<uint32_t>(from[i]) << 16) * factor;
}

void scale_f16(float* __restrict to, const uint16_t* __restrict from, float factor, size_t n) {
  for (size_t i = 0; i < n; ++i) to[i] = widen_f16(from[i]) * factor;
}

void to_bf16(uint16_t* __restrict to, const float* __restrict from, size_t n) {
  for (size_t i = 0; i < n; ++i) to[i] = narrow_bf16(from[i]);
}

void to_f16(uint16_t* __restrict to, const float* __restrict from, size_t n) {
  for (size_t i = 0; i < n; ++i) to[i] = narrow_f16(from[i]);
}

// The second moment and the weight, which both forms of AdamW share.
inline void finish(float& p, float m, float& v, float g, const Coefficients& c) {
  v = fma(c.toward2 * g, g, v * c.beta2);
  const float denominator = __builtin_sqrtf(v) / c.root + c.eps;
  p = p * c.decay + (c.minus_step * m) / denominator;
}

void adamw(float* __restrict p, float* __restrict m, float* __restrict v, const float* __restrict g,
           const Coefficients& coefficients, size_t n) {
  const Coefficients c = coefficients;
  // As at::lerp: from the nearer end.
  if (c.toward1 < 0.5f) {
    for (size_t i = 0; i < n; ++i) {
      m[i] = fma(c.toward1, g[i] - m[i], m[i]);
      finish(p[i], m[i], v[i], g[i], c);
    }
  } else {
    for (size_t i = 0; i < n; ++i) {
      m[i] = fma(c.toward1 - 1.0f, g[i] - m[i], g[i]);
      finish(p[i], m[i], v[i], g[i], c);
    }
  }
}

void adamw_blockwise(float* __restrict p, float* __restrict m, float* __restrict v, const float* __restrict g,
                     const Coefficients& coefficients, size_t n) {
  const Coefficients c = coefficients;
  for (size_t i = 0; i < n; ++i) {
    m[i] = fma(c.toward1, g[i], m[i] * c.beta1);
    finish(p[i], m[i], v[i], g[i], c);
  }
}

void lerp(float* __restrict to, const float* __restrict from, float weight, size_t n) {
  if (weight < 0.5f) {
    for (size_t i = 0; i < n; ++i) to[i] = fma(weight, from[i] - to[i], to[i]);
  } else {
    for (size_t i = 0; i < n; ++i) to[i] = fma(weight - 1.0f, from[i] - to[i], from[i]);
  }
}

float sum_of_squares(const float* __restrict x, size_t n) {
  float lanes[LANES] = {};
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (size_t k = 0; k < LANES; ++k) lanes[k] = fma(x[i + k], x[i + k], lanes[k]);
  }
  for (; i < n; ++i) lanes[0] = fma(x[i], x[i], lanes[0]);
  for (size_t half = LANES / 2; half > 0; half /= 2) {
    for (size_t k = 0; k < half; ++k) lanes[k] += lanes[k + half];
  }
  return lanes[0];
}

void decode(float* __restrict to, const uint8_t* __restrict codes, float absmax, const Map& map, size_t n) {
  const float* values = map.values;
  for (size_t i = 0; i < n; ++i) to[i] = values[codes[i]] * absmax;
}

float encode(uint8_t* __restrict codes, const float* __restrict from, const Map& map, size_t n) {
  // Numbers without a sign are ordered as their bits are.
  uint32_t largest = 0;
  for (size_t i = 0; i < n; ++i) {
    const uint32_t b = bits(from[i]) & 0x7fffffffu;
    largest = b > largest ? b : largest;
  }
  const float absmax = from_bits(largest);
  const float inverse = 1.0f / (absmax > 1e-38f ? absmax : 1e-38f);

  float x[BLOCK];
  uint16_t upper[BLOCK];
  for (size_t i = 0; i < n; ++i) {
    float scaled = from[i] * inverse;
    // What is no number becomes 1, so that it has a place in the map.
    scaled = scaled < 1.0f ? scaled : 1.0f;
    scaled = scaled > -1.0f ? scaled : -1.0f;
    x[i] = scaled;
    upper[i] = static_cast<uint16_t>(bits(scaled) >> 16);
  }
  for (size_t i = 0; i < n; ++i) {
    // Numbers that share their upper bits have at most one bound between them.
    const uint8_t first = map.first[upper[i]];
    codes[i] = static_cast<uint8_t>(first + (x[i] > map.bounds[first] ? 1 : 0));
  }
  return absmax;
}

}  // namespace

namespace fewstep {

extern const Tiles FEWSTEP_TILES = {
    scale, scale_bf16, scale_f16,      to_bf16, to_f16, adamw, adamw_blockwise,
    lerp,  sum_of_squares, decode, encode,
};

}  // namespace fewstep
