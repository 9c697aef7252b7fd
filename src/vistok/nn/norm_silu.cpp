// y = silu(group_norm(x)) of images, and the gradients of it, as norm_silu.py calls them.
//
// Torch goes over the pixels in two operators each way, and stores what lies between them; here each image is read from
// the cache again, and the normalised values are computed anew for the gradients.
// CHUNK, the number of pixels that one task handles, is defined by norm_silu.py.
// Sums are over a few values in float32, then in double, in an order that depends on the sizes alone: the results are
// equal bit for bit whatever the number of threads.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "element.h"

namespace {

#if defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
constexpr int64_t BLOCK = 32;          // vectors that are summed in float32
constexpr int64_t MOST_CHANNELS = 4096;  // checked by norm_silu.py

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef Element Elements __attribute__((vector_size(sizeof(Element) * LANES)));

using ::narrowed;
using ::widened;

#ifdef BFLOAT16
Vector widened(Elements v) {
  const Bits bits = __builtin_convertvector(v, Bits) << 16;
  Vector wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

Elements narrowed(Vector v) {
  Bits bits;
  std::memcpy(&bits, &v, sizeof bits);
  const Bits rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return __builtin_convertvector(v == v ? rounded : Bits{} + 0x7fc0, Elements);
}
#else
Vector widened(Elements v) { return v; }
Elements narrowed(Vector v) { return v; }
#endif

// Of a whole vector, or of the first lanes only.
template <bool WHOLE>
Vector load(const Element* from, int64_t lanes) {
  Elements v = {};
  std::memcpy(&v, from, WHOLE ? sizeof v : lanes * sizeof(Element));
  return widened(v);
}

template <bool WHOLE>
void store(Element* to, Vector v, int64_t lanes) {
  const Elements stored = narrowed(v);
  std::memcpy(to, &stored, WHOLE ? sizeof stored : lanes * sizeof(Element));
}

Vector all(float value) { return Vector{} + value; }

// 1 / (1 + exp(-x)). The exponential is 2^n times that of a remainder, by its Taylor polynomial: within two units in the
// last place. NaN stays NaN.
Vector sigmoid(Vector x) {
  constexpr float ROUND = 12582912;  // 1.5 * 2^23: adding it rounds to a whole number
  constexpr float TERMS[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1, 1};
  x = x > 87 ? all(87) : x;
  x = x < -87 ? all(-87) : x;
  const Vector n = (x * -1.44269504f + ROUND) - ROUND;
  const Vector r = (-x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vector e = all(1.0f / 5040);
  for (const float term : TERMS) e = e * r + term;
  const Integers exponent = (__builtin_convertvector(n, Integers) + 127) << 23;
  Vector power;
  std::memcpy(&power, &exponent, sizeof power);
  return 1 / (1 + e * power);
}

struct Sizes {
  int64_t images, channels, pixels, groups, threads;

  int64_t chunks() const { return (pixels + CHUNK - 1) / CHUNK; }
  int64_t width() const { return channels / groups; }  // of a group
};

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Vectors that lie `stride` apart from `at`; `lanes` of each are values. They belong to one channel, or to as many
// channels as there are lanes, whichever is next to each other in memory.
struct Strip {
  int64_t at, count, stride, lanes, channel;
};

// Calls body(strip, whether its vectors are whole) for everything in a task: some pixels of one image, all channels.
template <bool LAST, class Body>
void each_strip(const Sizes& n, int64_t task, Body body) {
  const int64_t image = task / n.chunks(), first = task % n.chunks() * CHUNK, pixels = least(CHUNK, n.pixels - first);
  const int64_t start = image * n.channels * n.pixels;
  const auto call = [&](const Strip& strip) {
    if (strip.lanes == LANES)
      body(strip, std::true_type{});
    else
      body(strip, std::false_type{});
  };
  if (LAST) {
    for (int64_t p = 0; p < pixels; p += BLOCK)
      for (int64_t c = 0; c < n.channels; c += LANES)
        call({start + (first + p) * n.channels + c, least(BLOCK, pixels - p), n.channels, least(LANES, n.channels - c), c});
  } else {
    for (int64_t c = 0; c < n.channels; c++) {
      const int64_t row = start + c * n.pixels + first, whole = pixels / LANES;
      for (int64_t v = 0; v < whole; v += BLOCK) call({row + v * LANES, least(BLOCK, whole - v), LANES, LANES, c});
      if (pixels % LANES) call({row + whole * LANES, 1, LANES, pixels % LANES, c});
    }
  }
}

// A number for each channel, of the image that a task belongs to.
struct PerChannel {
  float values[MOST_CHANNELS + LANES];

  template <bool LAST>
  Vector of(const Strip& strip) const {
    Vector v;
    std::memcpy(&v, values + strip.channel, sizeof v);
    return LAST ? v : all(values[strip.channel]);
  }
};

template <bool LAST>
void add(double* sums, const Strip& strip, const Vector& v) {
  for (int64_t i = 0; i < strip.lanes; i++) sums[strip.channel + (LAST ? i : 0)] += v[i];
}

// Sums of a term over a strip, in four parts, so that additions do not wait for each other.
template <class Term>
Vector sum(int64_t count, Term term) {
  Vector parts[4] = {};
  int64_t i = 0;
  for (; i + 4 <= count; i += 4)
    for (int k = 0; k < 4; k++) parts[k] += term(i + k);
  for (; i < count; i++) parts[0] += term(i);
  return (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

// What a group's tasks summed for its channels, each times a weight if there are any; sums: (images chunks channels).
double over_group(const Sizes& n, const double* sums, const float* weights, int64_t image, int64_t group) {
  double total = 0;
  for (int64_t chunk = 0; chunk < n.chunks(); chunk++)
    for (int64_t c = group * n.width(); c < (group + 1) * n.width(); c++)
      total += sums[(image * n.chunks() + chunk) * n.channels + c] * (weights ? weights[c] : 1);
  return total;
}

// Calls each stage for all tasks, one stage after the other for each group of values. An image that is one task goes
// through all stages while the cache holds it.
template <class... Stages>
void run(const Sizes& n, Stages... stages) {
  const int64_t tasks = n.images * n.chunks();
  const auto all_tasks = [&](auto stage) {
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks; task++) stage(task);
  };
#pragma omp parallel num_threads(n.threads)
  if (n.chunks() == 1)
    all_tasks([&](int64_t task) { (stages(task), ...); });
  else
    (all_tasks(stages), ...);
}

template <bool LAST>
void forward(const Sizes& n, const Element* x, const float* weight, const float* bias, double eps, Element* y, float* means,
             float* scales, double* sums, double* squares) {
  const double size = n.width() * n.pixels;
  // Sums are of differences to a group's first value: exact where all values are the same, and for means far from 0.
  const auto origin = [&](int64_t image, int64_t group) {
    const int64_t channel = group * n.width();
    return widened(x[image * n.channels * n.pixels + (LAST ? channel : channel * n.pixels)]);
  };
  const auto mean = [&](int64_t image, int64_t group) {
    return origin(image, group) + over_group(n, sums, nullptr, image, group) / size;
  };
  const auto add_values = [&](int64_t task) {
    PerChannel origins;
    for (int64_t c = 0; c < n.channels; c++) origins.values[c] = origin(task / n.chunks(), c / n.width());
    double* const to = sums + task * n.channels;
    std::memset(to, 0, n.channels * sizeof(double));
    each_strip<LAST>(n, task, [&](const Strip& s, auto whole) {
      const Vector from = origins.of<LAST>(s);
      add<LAST>(to, s, sum(s.count, [&](int64_t i) { return load<whole>(x + s.at + i * s.stride, s.lanes) - from; }));
    });
  };
  const auto add_squares = [&](int64_t task) {
    PerChannel centers;
    for (int64_t group = 0; group < n.groups; group++) {
      const float center = mean(task / n.chunks(), group);
      for (int64_t c = group * n.width(); c < (group + 1) * n.width(); c++) centers.values[c] = center;
      if (task % n.chunks() == 0) means[task / n.chunks() * n.groups + group] = center;
    }
    double* const to = squares + task * n.channels;
    std::memset(to, 0, n.channels * sizeof(double));
    each_strip<LAST>(n, task, [&](const Strip& s, auto whole) {
      const Vector center = centers.of<LAST>(s);
      add<LAST>(to, s, sum(s.count, [&](int64_t i) {
        const Vector away = load<whole>(x + s.at + i * s.stride, s.lanes) - center;
        return away * away;
      }));
    });
  };
  const auto write = [&](int64_t task) {
    const int64_t image = task / n.chunks();
    PerChannel centers, factors, shifts;
    for (int64_t group = 0; group < n.groups; group++) {
      const float center = means[image * n.groups + group];
      const double rounded_off = mean(image, group) - center;
      const double variance = over_group(n, squares, nullptr, image, group) / size - rounded_off * rounded_off;
      const float scale = 1 / std::sqrt((variance < 0 ? 0 : variance) + eps);
      if (task % n.chunks() == 0) scales[image * n.groups + group] = scale;
      for (int64_t c = group * n.width(); c < (group + 1) * n.width(); c++) {
        centers.values[c] = center;
        factors.values[c] = scale * weight[c];
        shifts.values[c] = bias[c];
      }
    }
    each_strip<LAST>(n, task, [&](const Strip& s, auto whole) {
      const Vector center = centers.of<LAST>(s), factor = factors.of<LAST>(s), shift = shifts.of<LAST>(s);
      for (int64_t i = 0; i < s.count; i++) {
        const Vector z = (load<whole>(x + s.at + i * s.stride, s.lanes) - center) * factor + shift;
        store<whole>(y + s.at + i * s.stride, z * sigmoid(z), s.lanes);
      }
    });
  };
  run(n, add_values, add_squares, write);
}

template <bool LAST>
void backward(const Sizes& n, const Element* gradient, const Element* x, const float* weight, const float* bias,
              const float* means, const float* scales, Element* to_x, float* to_weight, float* to_bias, double* sums,
              double* products) {
  const double size = n.width() * n.pixels;
  // Until the gradients of means and variances are known, to_x holds the gradients behind the norm.
  const auto through_silu = [&](int64_t task) {
    PerChannel centers, factors, weights, shifts;
    for (int64_t c = 0; c < n.channels; c++) {
      const int64_t at = task / n.chunks() * n.groups + c / n.width();
      centers.values[c] = means[at];
      factors.values[c] = scales[at];
      weights.values[c] = weight[c];
      shifts.values[c] = bias[c];
    }
    double* const to = sums + task * n.channels;
    double* const to_product = products + task * n.channels;
    std::memset(to, 0, n.channels * sizeof(double));
    std::memset(to_product, 0, n.channels * sizeof(double));
    each_strip<LAST>(n, task, [&](const Strip& s, auto whole) {
      const Vector center = centers.of<LAST>(s), factor = factors.of<LAST>(s);
      const Vector scale = weights.of<LAST>(s), shift = shifts.of<LAST>(s);
      Vector total = {}, product = {};
      for (int64_t i = 0; i < s.count; i++) {
        const int64_t at = s.at + i * s.stride;
        const Vector normal = (load<whole>(x + at, s.lanes) - center) * factor, z = normal * scale + shift;
        const Vector share = sigmoid(z);
        const Vector found = load<whole>(gradient + at, s.lanes) * (share * (1 + z * (1 - share)));
        store<whole>(to_x + at, found, s.lanes);
        total += found;
        product += found * normal;
      }
      add<LAST>(to, s, total);
      add<LAST>(to_product, s, product);
    });
  };
  const auto through_norm = [&](int64_t task) {
    const int64_t image = task / n.chunks();
    PerChannel centers, factors, slopes, shifts;
    for (int64_t group = 0; group < n.groups; group++) {
      const int64_t at = image * n.groups + group;
      const float slope = scales[at] * (scales[at] * over_group(n, products, weight, image, group) / size);
      const float shift = scales[at] * over_group(n, sums, weight, image, group) / size;
      for (int64_t c = group * n.width(); c < (group + 1) * n.width(); c++) {
        centers.values[c] = means[at];
        factors.values[c] = scales[at] * weight[c];
        slopes.values[c] = slope;
        shifts.values[c] = shift;
      }
    }
    each_strip<LAST>(n, task, [&](const Strip& s, auto whole) {
      const Vector center = centers.of<LAST>(s), factor = factors.of<LAST>(s);
      const Vector slope = slopes.of<LAST>(s), shift = shifts.of<LAST>(s);
      for (int64_t i = 0; i < s.count; i++) {
        const int64_t at = s.at + i * s.stride;
        const Vector away = load<whole>(x + at, s.lanes) - center;
        store<whole>(to_x + at, load<whole>(to_x + at, s.lanes) * factor - (away * slope + shift), s.lanes);
      }
    });
  };
  run(n, through_silu, through_norm);
  for (int64_t c = 0; c < n.channels; c++) {
    double total = 0, product = 0;
    for (int64_t task = 0; task < n.images * n.chunks(); task++) {
      total += sums[task * n.channels + c];
      product += products[task * n.channels + c];
    }
    to_bias[c] = total;
    to_weight[c] = product;
  }
}

}  // namespace

extern "C" {

// x, y, gradient, to_x: (images channels pixels), or (images pixels channels) with `last`. means, scales: (images groups).
// sums, squares, products: (images chunks channels), overwritten.
void norm_silu_forward(const Sizes* sizes, int64_t last, const Element* x, const float* weight, const float* bias,
                       double eps, Element* y, float* means, float* scales, double* sums, double* squares) {
  (last ? forward<true> : forward<false>)(*sizes, x, weight, bias, eps, y, means, scales, sums, squares);
}

void norm_silu_backward(const Sizes* sizes, int64_t last, const Element* gradient, const Element* x, const float* weight,
                        const float* bias, const float* means, const float* scales, Element* to_x, float* to_weight,
                        float* to_bias, double* sums, double* products) {
  (last ? backward<true> : backward<false>)(*sizes, gradient, x, weight, bias, means, scales, to_x, to_weight, to_bias,
                                            sums, products);
}

// Checks that the compiled code runs on this machine, alongside the other libraries loaded: returns 0 if it does.
int wrong() {
  const Sizes sizes = {2, 10, 9, 2, 2};
  Element x[180], y[180];
  float weight[10], bias[10], means[4], scales[4];
  double sums[20], squares[20];
  for (int i = 0; i < 180; i++) x[i] = narrowed(static_cast<float>(i % 7 + i % 11));
  for (int c = 0; c < 10; c++) weight[c] = 1, bias[c] = c;
  norm_silu_forward(&sizes, 0, x, weight, bias, 0, y, means, scales, sums, squares);
  for (int i = 0; i < 180; i++) {
    const float z = (widened(x[i]) - means[i / 45]) * scales[i / 45] + i / 9 % 10, right = z / (1 + std::exp(-z));
    if (!(std::fabs(widened(y[i]) - right) < ROUNDING * (1 + std::fabs(right)))) return 1;
  }
  return 0;
}
}
