// Weights in seven eighths of float32's bytes, of which the same values are read. BLOCK is defined by native.py.
#pragma once

#include <algorithm>

#include "vectors.h"

namespace {

// BLOCK neighbouring weights without loss, in 28 bits each: of float32's bits the exponent's 8 say little.
struct Block {
  uint16_t low[BLOCK];       // sign, and the lower 15 bits of the mantissa
  uint8_t high[BLOCK];       // its upper 8
  uint8_t codes[BLOCK / 2];  // of each 2 * LANES weights, the first half in the lower bits
};
static_assert(sizeof(Block) == BLOCK * 7 / 2, "native.py makes room for it");

// A block's exponents are base + code, those of code 0 `smaller`: zero, or a rare tiny one.
struct Exponents {
  uint8_t base, smaller;
};
constexpr uint8_t NONE = 255;  // smaller: no code is 0. base: too different, the weights are read where they are.

#if defined(__AVX512F__)
constexpr int FEW = 4;  // rows up to which unpacking costs less than reading what it saves

// LANES weights of a block; SMALLER: some may have code 0.
template <bool SMALLER>
__attribute__((always_inline)) inline Vector unpack(const Block& block, Exponents of, int64_t i) {
  const __m512i low = _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(block.low + i)));
  const __m512i high = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block.high + i)));
  const __m512i pairs =
      _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block.codes + i / (2 * LANES) * LANES)));
  const __m512i codes = i / LANES % 2 ? _mm512_slli_epi32(pairs, 19) : _mm512_slli_epi32(pairs, 23);
  constexpr int AND_OR = 0xEA;  // (a & b) | c
  const __m512i code_bits = _mm512_set1_epi32(15 << 23);
  __m512i bits = _mm512_slli_epi32(high, 15);
  bits = _mm512_ternarylogic_epi32(low, _mm512_set1_epi32(0x80007FFF), bits, AND_OR);
  bits = _mm512_ternarylogic_epi32(codes, code_bits, bits, AND_OR);
  __m512i base = _mm512_set1_epi32(of.base << 23);
  if (SMALLER)
    base = _mm512_mask_blend_epi32(_mm512_test_epi32_mask(codes, code_bits), _mm512_set1_epi32(of.smaller << 23), base);
  return _mm512_castsi512_ps(_mm512_add_epi32(bits, base));
}
#else
constexpr int FEW = 0;  // with narrower vectors it never does
template <bool SMALLER>
Vector unpack(const Block&, Exponents, int64_t);
#endif

// Writes BLOCK values.
Exponents pack(const float* values, Block& block) {
  uint32_t bits[BLOCK];
  std::memcpy(bits, values, sizeof bits);
  int own[BLOCK], highest = 0, lowest = 255, smaller = 0;
  for (int i = 0; i < BLOCK; i++) {
    own[i] = bits[i] >> 23 & 255;
    highest = std::max(highest, own[i]);
    lowest = std::min(lowest, own[i]);
  }
  const int base = std::max(highest - 15, 0);
  uint8_t codes[BLOCK];
  for (int i = 0; i < BLOCK; i++) {
    smaller = std::max(smaller, own[i] <= base ? own[i] : 0);
    codes[i] = std::max(own[i] - base, 0);
    block.low[i] = (bits[i] >> 16 & 0x8000) | (bits[i] & 0x7FFF);
    block.high[i] = bits[i] >> 15 & 255;
  }
  for (int pair = 0; pair < BLOCK / 2; pair += LANES)
    for (int i = 0; i < LANES; i++)
      block.codes[pair + i] = codes[2 * pair + i] | codes[2 * pair + LANES + i] << 4;
  if (lowest > base) return {static_cast<uint8_t>(base), NONE};
  if (lowest == smaller) return {static_cast<uint8_t>(base), static_cast<uint8_t>(smaller)};
  return {NONE, 0};
}

}  // namespace
