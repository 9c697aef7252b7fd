// As many floats as the CPU takes at once, and sums of their products.
#pragma once

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Vector __attribute__((vector_size(4 * LANES)));

Vector load(const float* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

// Compilers make poor code of the plain loop.
Vector load(const int8_t* from) {
#if defined(__AVX512F__)
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#elif defined(__AVX2__)
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#else
  Vector v;
  for (int i = 0; i < LANES; i++) v[i] = from[i];
  return v;
#endif
}

// The last values of a row, and zeros.
template <class W>
Vector load_some(const W* from, int64_t count) {
  W some[LANES] = {};
  std::memcpy(some, from, count * sizeof(W));
  return load(some);
}

float sum(Vector v) {
  float lanes[LANES];
  std::memcpy(lanes, &v, sizeof v);
  for (int half = LANES / 2; half; half /= 2)
    for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
  return lanes[0];
}

float dot(const float* a, const float* b, int64_t length) {
  Vector total = {};
  int64_t i = 0;
  for (; i + LANES <= length; i += LANES) total += load(a + i) * load(b + i);
  if (i < length) total += load_some(a + i, length - i) * load_some(b + i, length - i);
  return sum(total);
}

}  // namespace
