// Feeds new positions of a few sequences through a whole transformer, as frozen.py does with torch.
//
// With few rows, a decode step is as fast as the weights can be read. So each product reads four rows of a weight at a
// time, far apart from each other, and prefetches in good time, since a CPU's prefetcher stops at the end of a page, into
// the cache that suits the CPU (native_cache.py); and all threads stay in one parallel region (benchmarks/decode_step.py).
// MOST, the largest number of new positions per call over all rows, is defined by native.py.
// Each output is summed in the same order whatever the number of rows and threads, so the logits are equal bit for bit.
#if defined(__AVX__)
#include <immintrin.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, TILE = 6;  // TILE: vectors multiplied at once; STREAMS * TILE sums must fit the registers
#elif defined(__AVX__)
constexpr int LANES = 8, TILE = 2;
#elif defined(__aarch64__)
constexpr int LANES = 4, TILE = 4;
#else
constexpr int LANES = 4, TILE = 2;
#endif
constexpr int STREAMS = 4;
constexpr int AHEAD = 2048;  // bytes

// The cache into which weights are prefetched: none, the first or the second. The second takes more requests at once.
enum Cache { NONE, FIRST, SECOND };

template <Cache CACHE>
void prefetch(const void* from) {
  if (CACHE == FIRST) __builtin_prefetch(static_cast<const char*>(from) + AHEAD, 0, 3);
  if (CACHE == SECOND) __builtin_prefetch(static_cast<const char*>(from) + 4 * AHEAD, 0, 2);
}

typedef float Vector __attribute__((vector_size(4 * LANES)));

Vector load(const float* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

// Compilers generate poor code for the plain loop.
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

// The upper half of a float32.
struct BFloat16 {
  uint16_t bits;
};

Vector load(const BFloat16* from) {
#if defined(__AVX512F__)
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
#elif defined(__AVX2__)
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
#else
  uint32_t whole[LANES];
  for (int i = 0; i < LANES; i++) whole[i] = static_cast<uint32_t>(from[i].bits) << 16;
  Vector v;
  std::memcpy(&v, whole, sizeof v);
  return v;
#endif
}

// The last values of a row, padded with zeros.
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

void fetch(const float* from, int64_t length) {
  for (int64_t i = 0; i < length; i += 16) __builtin_prefetch(from + i);
}

float dot(const float* a, const float* b, int64_t length) {
  Vector total = {};
  int64_t i = 0;
  for (; i + LANES <= length; i += LANES) total += load(a + i) * load(b + i);
  if (i < length) total += load_some(a + i, length - i) * load_some(b + i, length - i);
  return sum(total);
}

// A weight, (outputs, inputs). Eight-bit weights have a scale per output; for others it is null.
template <class W>
struct Matrix {
  const W* values;
  const float* scales;
};

template <class W>
float scale_of(const Matrix<W>& weight, int64_t output) {
  return weight.scales ? weight.scales[output] : 1;
}

// Products of four rows of weights with R vectors, (R, in).
template <int R, Cache CACHE, class W>
void tile(const W* const* weights, int64_t in, const float* x, float (*y)[MOST]) {
  Vector totals[STREAMS][R] = {};
  int64_t i = 0;
  for (; i + LANES <= in; i += LANES) {
    Vector v[R];
    for (int r = 0; r < R; r++) v[r] = load(x + r * in + i);
    for (int s = 0; s < STREAMS; s++) {
      prefetch<CACHE>(weights[s] + i);
      const Vector w = load(weights[s] + i);
      for (int r = 0; r < R; r++) totals[s][r] += w * v[r];
    }
  }
  if (i < in)
    for (int s = 0; s < STREAMS; s++)
      for (int r = 0; r < R; r++)
        totals[s][r] += load_some(weights[s] + i, in - i) * load_some(x + r * in + i, in - i);
  for (int s = 0; s < STREAMS; s++)
    for (int r = 0; r < R; r++) y[s][r] = sum(totals[s][r]);
}

// The same, for up to R vectors.
template <Cache CACHE, int R = TILE, class W>
void tile_of(int64_t rows, const W* const* weights, int64_t in, const float* x, float (*y)[MOST]) {
  if constexpr (R > 1)
    if (rows < R) return tile_of<CACHE, R - 1>(rows, weights, in, x, y);
  tile<R, CACHE>(weights, in, x, y);
}

// The same, for any number of vectors; after the first few, the weights come from the cache.
template <class W>
void products(const W* const* weights, int64_t in, const float* x, int64_t rows, int64_t cache, float (*y)[MOST]) {
  for (int64_t first = 0; first < rows; first += TILE) {
    const int64_t count = rows - first < TILE ? rows - first : TILE;
    float(*to)[MOST] = reinterpret_cast<float(*)[MOST]>(&y[0][first]);
    if (first != 0)
      tile_of<NONE>(count, weights, in, x + first * in, to);
    else if (cache == SECOND)
      tile_of<SECOND>(count, weights, in, x, to);
    else
      tile_of<FIRST>(count, weights, in, x, to);
  }
}

// y = x @ weight.T, or y += x @ weight.T. Called by all threads together, like everything below.
template <bool ADD, class W>
void linear(const Matrix<W>& weight, int64_t out, int64_t in, const float* x, int64_t rows, int64_t cache, float* y) {
  const int64_t part = (out + STREAMS - 1) / STREAMS;
#pragma omp for schedule(static)
  for (int64_t o = 0; o < part; o++) {
    const W* weights[STREAMS];
    float found[STREAMS][MOST];
    for (int s = 0; s < STREAMS; s++) weights[s] = weight.values + (s * part + o < out ? s * part + o : out - 1) * in;
    products(weights, in, x, rows, cache, found);
    for (int s = 0; s < STREAMS && s * part + o < out; s++) {
      const float scale = scale_of(weight, s * part + o);
      for (int64_t r = 0; r < rows; r++) {
        float& to = y[r * out + s * part + o];
        to = ADD ? to + scale * found[s][r] : scale * found[s][r];
      }
    }
  }
}

// y = silu(x @ gate.T) * (x @ up.T)
template <class W>
void gated(const Matrix<W>& gate, const Matrix<W>& up, int64_t out, int64_t in, const float* x, int64_t rows,
           int64_t cache, float* y) {
  const int64_t part = (out + 1) / 2;
#pragma omp for schedule(static)
  for (int64_t o = 0; o < part; o++) {
    const int64_t outputs[] = {o, part + o < out ? part + o : o};
    const W* weights[STREAMS];
    float found[STREAMS][MOST];
    for (int k = 0; k < 2; k++) {
      weights[k] = gate.values + outputs[k] * in;
      weights[2 + k] = up.values + outputs[k] * in;
    }
    products(weights, in, x, rows, cache, found);
    for (int k = 0; k < 2; k++)
      for (int64_t r = 0; r < rows; r++) {
        const float g = scale_of(gate, outputs[k]) * found[k][r], u = scale_of(up, outputs[k]) * found[2 + k][r];
        y[r * out + outputs[k]] = g / (1 + std::exp(-g)) * u;
      }
  }
}

void rms_norm(const float* x, const float* weight, int64_t width, int64_t rows, float* y) {
#pragma omp for schedule(static)
  for (int64_t r = 0; r < rows; r++) {
    const float* from = x + r * width;
    const float scale = 1 / std::sqrt(dot(from, from, width) / width + 1e-5f);
    for (int64_t i = 0; i < width; i++) y[r * width + i] = from[i] * scale * weight[i];
  }
}

// Layer norm without bias, in place; does nothing if there is no weight.
void layer_norm(float* x, const float* weight, int64_t width) {
  if (!weight) return;
  float mean = 0, variance = 0;
  for (int64_t i = 0; i < width; i++) mean += x[i];
  mean /= width;
  for (int64_t i = 0; i < width; i++) variance += (x[i] - mean) * (x[i] - mean);
  const float scale = 1 / std::sqrt(variance / width + 1e-5f);
  for (int64_t i = 0; i < width; i++) x[i] = (x[i] - mean) * scale * weight[i];
}

void turn(const float* x, const float* cosines, const float* sines, int64_t width, float* y) {
  for (int64_t i = 0; i < width / 2; i++) {
    const float a = x[2 * i], b = x[2 * i + 1];
    y[2 * i] = a * cosines[i] - b * sines[i];
    y[2 * i + 1] = a * sines[i] + b * cosines[i];
  }
}

// y = shares @ values, where values are (count, width); the sums stay in registers.
void mean(const float* values, const float* shares, int64_t count, int64_t width, float* y) {
  constexpr int PIECES = 4;
  int64_t i = 0;
  for (; i + PIECES * LANES <= width; i += PIECES * LANES) {
    Vector totals[PIECES] = {};
    for (int64_t j = 0; j < count; j++)
      for (int k = 0; k < PIECES; k++) totals[k] += load(values + j * width + i + k * LANES) * shares[j];
    std::memcpy(y + i, totals, sizeof totals);
  }
  for (; i < width; i++) {
    y[i] = 0;
    for (int64_t j = 0; j < count; j++) y[i] += shares[j] * values[j * width + i];
  }
}

// Attention of one query over `count` keys and values, each (count, width).
void attend(const float* query, const float* keys, const float* values, int64_t count, int64_t width, float* scores,
            float* y) {
  const float scale = 1 / std::sqrt(static_cast<float>(width));
  float highest = -INFINITY, total = 0;
  for (int64_t j = 0; j < count; j++) {
    fetch(keys + j * width + AHEAD / sizeof(float), width);
    fetch(values + j * width, width);  // read only when all scores are known
    scores[j] = dot(query, keys + j * width, width) * scale;
    highest = scores[j] > highest ? scores[j] : highest;
  }
  for (int64_t j = 0; j < count; j++) total += scores[j] = std::exp(scores[j] - highest);
  for (int64_t j = 0; j < count; j++) scores[j] /= total;
  mean(values, scores, count, width, y);
}

// Sizes of the model, of the keys and values, and of this call: `rows` sequences of `fresh` new positions each, and how
// many threads read weights into which of the CPU's caches.
struct Sizes {
  int64_t depth, width, heads, hidden, codes, turns, positions, rows, fresh, threads, cache;
};

// Pointers to the weights; the norms for queries and keys may be null.
template <class W>
struct Layer {
  const float *attention_norm, *query_norm, *key_norm, *feed_forward_norm;
  Matrix<W> qkv, out, gate, up, down;
};

// Rotates queries and keys of all heads, writes keys and values to the cache, and attends from each new position.
template <class W>
void attention(const Sizes& n, const Layer<W>& layer, const float* cosines, const float* sines, const int64_t* places,
               float* qkv, float* keys, float* values, float* scores, float* y) {
  const int64_t size = n.width / n.heads;
#pragma omp for schedule(static)
  for (int64_t task = 0; task < n.rows * n.heads; task++) {
    const int64_t first = task / n.heads * n.fresh, head = task % n.heads;
    float* const own_keys = keys + task * n.positions * size;
    float* const own_values = values + task * n.positions * size;
    for (int64_t i = first; i < first + n.fresh; i++) {
      const int64_t place = places[i], at = (place < n.turns ? place : n.turns - 1) * (size / 2);
      float* const query = qkv + i * 3 * n.width + head * size;
      float* const key = query + n.width;
      layer_norm(query, layer.query_norm, size);
      layer_norm(key, layer.key_norm, size);
      turn(query, cosines + at, sines + at, size, query);
      turn(key, cosines + at, sines + at, size, own_keys + place * size);
      std::memcpy(own_values + place * size, query + 2 * n.width, size * sizeof(float));
    }
    for (int64_t i = first; i < first + n.fresh; i++)
      attend(qkv + i * 3 * n.width + head * size, own_keys, own_values, places[i] + 1, size,
             scores + task * n.positions, y + i * n.width + head * size);
  }
}

// x: (rows fresh width), overwritten. cache: (depth 2 rows heads positions head_dim). places: (rows fresh).
// scratch: rows * (fresh * (4 * width + hidden) + heads * positions). logits: (rows fresh codes). rows * fresh <= MOST.
template <class W>
void decode_step(const Sizes& n, const Layer<W>* layers, const float* norm, const Matrix<W>& head, const float* cosines,
                 const float* sines, const int64_t* places, float* x, float* cache, float* scratch, float* logits) {
  const int64_t count = n.rows * n.fresh, plane = n.rows * n.positions * n.width;
  float* const h = scratch;
  float* const qkv = h + count * n.width;
  float* const inner = qkv + count * 3 * n.width;
  float* const scores = inner + count * n.hidden;
#pragma omp parallel num_threads(n.threads)
  {
    for (int64_t i = 0; i < n.depth; i++) {
      const Layer<W>& layer = layers[i];
      float* const keys = cache + 2 * i * plane;
      rms_norm(x, layer.attention_norm, n.width, count, h);
      linear<false>(layer.qkv, 3 * n.width, n.width, h, count, n.cache, qkv);
      attention(n, layer, cosines, sines, places, qkv, keys, keys + plane, scores, h);
      linear<true>(layer.out, n.width, n.width, h, count, n.cache, x);
      rms_norm(x, layer.feed_forward_norm, n.width, count, h);
      gated(layer.gate, layer.up, n.hidden, n.width, h, count, n.cache, inner);
      linear<true>(layer.down, n.width, n.hidden, inner, count, n.cache, x);
    }
    rms_norm(x, norm, n.width, count, h);
    linear<false>(head, n.codes, n.width, h, count, n.cache, logits);
  }
}

}  // namespace

extern "C" {

// Checks that the compiled code runs on this machine, alongside the other libraries loaded: returns 0 if it does.
int wrong() {
  const int64_t out = 9, in = 70, rows = TILE + 1;
  float weight[out * in], x[rows * in], y[rows * out] = {};
  for (int64_t i = 0; i < out * in; i++) weight[i] = i % 7;
  for (int64_t i = 0; i < rows * in; i++) x[i] = i % 5;
#pragma omp parallel num_threads(2)
  linear<true>(Matrix<float>{weight, nullptr}, out, in, x, rows, FIRST, y);
  for (int64_t i = 0; i < rows * out; i++) {
    for (int64_t j = 0; j < in; j++) y[i] -= weight[i % out * in + j] * x[i / out * in + j];
    if (y[i] != 0) return 1;
  }
  return 0;
}

// y = x @ weight.T, to find out which cache is the quickest.
void product(const float* weight, int64_t out, int64_t in, const float* x, int64_t rows, int64_t threads, int64_t cache,
             float* y) {
#pragma omp parallel num_threads(threads)
  linear<false>(Matrix<float>{weight, nullptr}, out, in, x, rows, cache, y);
}

void decode_step_float32(const Sizes* sizes, const Layer<float>* layers, const float* norm, const Matrix<float>* head,
                         const float* cosines, const float* sines, const int64_t* places, float* x, float* cache,
                         float* scratch, float* logits) {
  decode_step(*sizes, layers, norm, *head, cosines, sines, places, x, cache, scratch, logits);
}

void decode_step_bfloat16(const Sizes* sizes, const Layer<BFloat16>* layers, const float* norm,
                          const Matrix<BFloat16>* head, const float* cosines, const float* sines, const int64_t* places,
                          float* x, float* cache, float* scratch, float* logits) {
  decode_step(*sizes, layers, norm, *head, cosines, sines, places, x, cache, scratch, logits);
}

void decode_step_int8(const Sizes* sizes, const Layer<int8_t>* layers, const float* norm, const Matrix<int8_t>* head,
                      const float* cosines, const float* sines, const int64_t* places, float* x, float* cache,
                      float* scratch, float* logits) {
  decode_step(*sizes, layers, norm, *head, cosines, sines, places, x, cache, scratch, logits);
}
}
