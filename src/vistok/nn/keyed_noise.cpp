// Uniform numbers whose key is (seed, image, place, column), equal to rng.uniform_grid's bit for bit: SplitMix64.
#include <cstdint>

namespace {

constexpr uint64_t GAMMA = 0x9E3779B97F4A7C15, MIX1 = 0xBF58476D1CE4E5B9, MIX2 = 0x94D049BB133111EB;

uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 30)) * MIX1;
  x = (x ^ (x >> 27)) * MIX2;
  return x ^ (x >> 31);
}

}  // namespace

// Numbers in (0, 1), (images, count); `seed` is rng.stream_of's.
extern "C" void uniform_grid(int64_t seed, const int64_t* images, const int64_t* places, int64_t rows, int64_t count,
                             int64_t threads, float* y) {
  constexpr int64_t PARTS = 4;  // per row: there may be a single row with many codes
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
  for (int64_t row = 0; row < rows; row++)
    for (int64_t part = 0; part < PARTS; part++) {
      const uint64_t key = mixed(mixed(images[row] * GAMMA + static_cast<uint64_t>(seed)) + (places[row] + 1) * MIX1);
      for (int64_t j = count * part / PARTS; j < count * (part + 1) / PARTS; j++)
        y[row * count + j] = (static_cast<float>(mixed(key + (j + 1) * GAMMA) >> 41) + 0.5f) * 0x1p-23f;
    }
}

// Whether this code is wrong on this machine: tried once, when it is compiled. A number depends on its key alone.
extern "C" int wrong() {
  const int64_t images[] = {7, -3, 7}, places[] = {0, 5, 0};
  float y[3 * 9];
  uniform_grid(42, images, places, 3, 9, 2, y);
  for (int j = 0; j < 9; j++)
    if (!(y[j] > 0 && y[j] < 1) || y[j] != y[18 + j] || y[j] == y[9 + j]) return 1;
  return 0;
}
