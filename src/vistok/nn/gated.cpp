// y = silu(gate) * up, and its gradients, as gated.py calls them: torch goes over the values five times more, and copies the two
// gradients next to each other.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "element.h"

namespace {

// 1 / (1 + exp(-x)). The exponential is 2^n times that of a remainder, by its Taylor polynomial: within two units in the
// last place. NaN stays NaN.
inline float sigmoid(float x) {
  constexpr float ROUND = 12582912;  // 1.5 * 2^23: adding it rounds to a whole number
  x = x > 87 ? 87.0f : x;
  x = x < -87 ? -87.0f : x;
  const float n = (x * -1.44269504f + ROUND) - ROUND;
  const float r = (-x - n * 0.693359375f) + n * 2.12194440e-4f;
  float e = 1.0f / 5040;
  e = e * r + 1.0f / 720;
  e = e * r + 1.0f / 120;
  e = e * r + 1.0f / 24;
  e = e * r + 1.0f / 6;
  e = e * r + 0.5f;
  e = e * r + 1.0f;
  e = e * r + 1.0f;
  const int32_t exponent = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &exponent, sizeof power);
  return 1 / (1 + e * power);
}

struct Sizes {
  int64_t rows, width, stride, threads;  // stride: from a row of gates to the next, and of what is multiplied
};

}  // namespace

extern "C" void gated_forward(const Sizes* n, const Element* gate, const Element* up, Element* y) {
#pragma omp parallel for num_threads(n->threads) schedule(static)
  for (int64_t row = 0; row < n->rows; row++) {
    const Element *const g = gate + row * n->stride, *const u = up + row * n->stride;
    Element* const to = y + row * n->width;
#pragma omp simd
    for (int64_t i = 0; i < n->width; i++) {
      to[i] = narrowed(widened(g[i]) * sigmoid(widened(g[i])) * widened(u[i]));
    }
  }
}

extern "C" void gated_backward(const Sizes* n, const Element* gradient, const Element* gate, const Element* up, Element* to_gate,
                               Element* to_up) {
#pragma omp parallel for num_threads(n->threads) schedule(static)
  for (int64_t row = 0; row < n->rows; row++) {
    const Element *const d = gradient + row * n->width, *const g = gate + row * n->stride, *const u = up + row * n->stride;
    Element *const a = to_gate + row * n->stride, *const b = to_up + row * n->stride;
#pragma omp simd
    for (int64_t i = 0; i < n->width; i++) {
      const float s = sigmoid(widened(g[i]));
      b[i] = narrowed(widened(d[i]) * widened(g[i]) * s);
      a[i] = narrowed(widened(d[i]) * widened(u[i]) * s * (1 + widened(g[i]) * (1 - s)));
    }
  }
}

// Whether this code is wrong on this machine: tried once, when it is compiled.
extern "C" int wrong() {
  const Element gate[] = {narrowed(0.5f), narrowed(-2.0f), narrowed(30.0f)}, up[] = {narrowed(1.5f), narrowed(2.0f), narrowed(-1.0f)};
  const Element gradient[] = {narrowed(1), narrowed(1), narrowed(1)};
  const Sizes n = {1, 3, 3, 2};
  Element y[3], a[3], b[3];
  gated_forward(&n, gate, up, y);
  gated_backward(&n, gradient, gate, up, a, b);
  const auto off = [](Element found, double right) { return !(std::fabs(widened(found) - right) < ROUNDING * (1 + std::fabs(right))); };
  for (int i = 0; i < 3; i++) {
    const double g = widened(gate[i]), u = widened(up[i]), s = 1 / (1 + std::exp(-g));
    if (off(y[i], g * s * u) || off(b[i], g * s) || off(a[i], u * s * (1 + g * (1 - s)))) return 1;
  }
  return 0;
}
