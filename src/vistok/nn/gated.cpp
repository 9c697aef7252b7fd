// y = silu(gate) * up, and its gradients, as gated.py calls them: torch goes over the values five times more, and copies the two
// gradients next to each other.
#include <cmath>
#include <cstdint>
#include <cstring>

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

extern "C" void gated_forward(const Sizes* n, const float* gate, const float* up, float* y) {
#pragma omp parallel for num_threads(n->threads) schedule(static)
  for (int64_t row = 0; row < n->rows; row++) {
    const float *const g = gate + row * n->stride, *const u = up + row * n->stride;
    float* const to = y + row * n->width;
#pragma omp simd
    for (int64_t i = 0; i < n->width; i++) to[i] = g[i] * sigmoid(g[i]) * u[i];
  }
}

extern "C" void gated_backward(const Sizes* n, const float* gradient, const float* gate, const float* up, float* to_gate,
                               float* to_up) {
#pragma omp parallel for num_threads(n->threads) schedule(static)
  for (int64_t row = 0; row < n->rows; row++) {
    const float *const d = gradient + row * n->width, *const g = gate + row * n->stride, *const u = up + row * n->stride;
    float *const a = to_gate + row * n->stride, *const b = to_up + row * n->stride;
#pragma omp simd
    for (int64_t i = 0; i < n->width; i++) {
      const float s = sigmoid(g[i]);
      b[i] = d[i] * g[i] * s;
      a[i] = d[i] * u[i] * s * (1 + g[i] * (1 - s));
    }
  }
}

// Whether this code is wrong on this machine: tried once, when it is compiled.
extern "C" int wrong() {
  const float gate[] = {0.5f, -2.0f, 30.0f}, up[] = {1.5f, 2.0f, -1.0f}, gradient[] = {1, 1, 1};
  const Sizes n = {1, 3, 3, 2};
  float y[3], a[3], b[3];
  gated_forward(&n, gate, up, y);
  gated_backward(&n, gradient, gate, up, a, b);
  for (int i = 0; i < 3; i++) {
    const double s = 1 / (1 + std::exp(-static_cast<double>(gate[i])));
    if (!(std::fabs(y[i] - gate[i] * s * up[i]) < 1e-5) || !(std::fabs(b[i] - gate[i] * s) < 1e-5)) return 1;
    if (!(std::fabs(a[i] - up[i] * s * (1 + gate[i] * (1 - s))) < 1e-5)) return 1;
  }
  return 0;
}
