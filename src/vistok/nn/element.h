// The numbers that images and activations are stored as: float, or with -DBFLOAT16 the upper half of one. Sums and products are float.
#pragma once
#include <cstdint>
#include <cstring>

#ifdef BFLOAT16
typedef uint16_t Element;
constexpr double ROUNDING = 1e-2;  // what a number may be off, as a share

inline float widened(Element x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// To the nearest, and to the even one in the middle. NaN stays NaN.
inline Element narrowed(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return static_cast<Element>(value == value ? rounded : 0x7fc0);
}
#else
typedef float Element;
constexpr double ROUNDING = 1e-5;

inline float widened(Element x) { return x; }
inline Element narrowed(float value) { return value; }
#endif
