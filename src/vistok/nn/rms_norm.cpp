// Root-mean-square norm of rows, scaled and shifted by what belongs to the row's group, and its gradients, as rms_norm.py calls them.
//
// y = x r w (1 + scale) + shift, where r = 1 / sqrt(mean(x^2) + eps), w is the same for all rows, and scale and shift for the rows
// of a group (both may be missing). Gradients are summed over a group, then over groups in their order: the results are equal bit
// for bit whatever the number of threads.
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

struct Sizes {
  int64_t rows, width, group, stride, threads;  // group: rows in one; stride: from a group's scale (and shift) to the next
};

struct Group {
  int64_t first, last;
};

int64_t groups(const Sizes& n) { return (n.rows + n.group - 1) / n.group; }

Group group(const Sizes& n, int64_t number) {
  const int64_t last = (number + 1) * n.group;
  return {number * n.group, last < n.rows ? last : n.rows};
}

// What a group's rows are multiplied by after their norm: w (1 + scale), or w.
void factors(const Sizes& n, const float* weight, const float* scale, int64_t number, float* to) {
  const float* const s = scale ? scale + number * n.stride : nullptr;
  for (int64_t i = 0; i < n.width; i++) to[i] = weight[i] * (s ? 1 + s[i] : 1.0f);
}

}  // namespace

extern "C" void rms_norm_forward(const Sizes* sizes, const float* x, const float* weight, const float* scale, const float* shift,
                                 double eps, float* y, float* inverse) {
  const Sizes& n = *sizes;
#pragma omp parallel num_threads(n.threads)
  {
    std::vector<float> factor(n.width);
#pragma omp for schedule(static)
    for (int64_t number = 0; number < groups(n); number++) {
      factors(n, weight, scale, number, factor.data());
      const float *const f = factor.data(), *const s = shift ? shift + number * n.stride : nullptr;
      for (int64_t row = group(n, number).first; row < group(n, number).last; row++) {
        const float* const from = x + row * n.width;
        float* const to = y + row * n.width;
        float squares = 0;
#pragma omp simd reduction(+ : squares)
        for (int64_t i = 0; i < n.width; i++) squares += from[i] * from[i];
        const float r = static_cast<float>(1 / std::sqrt(static_cast<double>(squares) / n.width + eps));
        inverse[row] = r;
        if (s) {
#pragma omp simd
          for (int64_t i = 0; i < n.width; i++) to[i] = from[i] * r * f[i] + s[i];
        } else {
#pragma omp simd
          for (int64_t i = 0; i < n.width; i++) to[i] = from[i] * r * f[i];
        }
      }
    }
  }
}

// to_scale and to_shift: (groups, width), where there is a scale; sums: room for as many.
extern "C" void rms_norm_backward(const Sizes* sizes, const float* gradient, const float* x, const float* weight,
                                  const float* scale, const float* inverse, float* to_x, float* to_weight, float* to_scale,
                                  float* to_shift, float* sums) {
  const Sizes& n = *sizes;
#pragma omp parallel num_threads(n.threads)
  {
    std::vector<float> factor(n.width), shifts(n.width);
#pragma omp for schedule(static)
    for (int64_t number = 0; number < groups(n); number++) {
      factors(n, weight, scale, number, factor.data());
      const float* const f = factor.data();
      float *const sum = sums + number * n.width, *const added = to_shift ? to_shift + number * n.width : shifts.data();
      for (int64_t i = 0; i < n.width; i++) sum[i] = added[i] = 0;
      for (int64_t row = group(n, number).first; row < group(n, number).last; row++) {
        const float *const g = gradient + row * n.width, *const from = x + row * n.width;
        float* const to = to_x + row * n.width;
        const float r = inverse[row];
        float along = 0;
#pragma omp simd reduction(+ : along)
        for (int64_t i = 0; i < n.width; i++) along += g[i] * f[i] * from[i];
        const float back = along * r * r / n.width;
#pragma omp simd
        for (int64_t i = 0; i < n.width; i++) {
          to[i] = r * (g[i] * f[i] - from[i] * back);
          sum[i] += g[i] * from[i] * r;
          added[i] += g[i];
        }
      }
    }
#pragma omp for schedule(static)
    for (int64_t i = 0; i < n.width; i++) {
      double total = 0;
      for (int64_t number = 0; number < groups(n); number++) {
        const float sum = sums[number * n.width + i];
        total += sum * (scale ? 1 + scale[number * n.stride + i] : 1.0f);
        if (to_scale) to_scale[number * n.width + i] = sum * weight[i];
      }
      to_weight[i] = static_cast<float>(total);
    }
  }
}

// Whether this code is wrong on this machine: tried once, when it is compiled.
extern "C" int wrong() {
  const float x[] = {3, 4, -1, 2, 0, 5}, weight[] = {1, 2}, scale[] = {0.5f, -1, 1, 0}, shift[] = {1, 0, 0, -1};
  const float gradient[] = {1, 0, 0, 1, 1, 1};
  const Sizes n = {3, 2, 2, 2, 2};
  float y[6], inverse[3], to_x[6], to_weight[2], to_scale[4], to_shift[4], sums[4];
  rms_norm_forward(&n, x, weight, scale, shift, 0, y, inverse);
  rms_norm_backward(&n, gradient, x, weight, scale, inverse, to_x, to_weight, to_scale, to_shift, sums);
  const double a = 1 / std::sqrt(12.5), b = 1 / std::sqrt(2.5);
  const bool right = std::fabs(y[0] - (3 * a * 1.5 + 1)) < 1e-5 && std::fabs(y[3]) < 1e-5 &&
                     std::fabs(to_x[0] - 1.5 * a * (1 - 9 * a * a / 2)) < 1e-5 && std::fabs(to_scale[1] - 4 * b) < 1e-5 &&
                     std::fabs(to_shift[2] - 1) < 1e-5 && std::fabs(to_weight[0] - 4.5 * a) < 1e-5;
  return right ? 0 : 1;
}
