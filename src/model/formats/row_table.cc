#include "model/formats/row_table.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/check.h"
#include "base/thread_pool.h"

namespace polyveil::model {
namespace {

// Sums of every eighth product: independent additions that the processor overlaps.
double Dot(const float* a, std::span<const double> b) {
  constexpr std::size_t kSums = 8;
  std::array<double, kSums> sums{};
  std::size_t i = 0;
  for (; i + kSums <= b.size(); i += kSums)
    for (std::size_t k = 0; k < kSums; ++k) sums[k] += static_cast<double>(a[i + k]) * b[i + k];
  for (; i < b.size(); ++i) sums[0] += static_cast<double>(a[i]) * b[i];
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

void RowTable::Decode(std::int64_t row, float* out) const {
  const std::uint8_t* at = view_.bytes.data() + static_cast<std::size_t>(row) * view_.row_bytes();
  const auto count = static_cast<std::size_t>(cols());
  if (view_.type == ElementType::kI8) {
    std::transform(at, at + count, out, [](std::uint8_t byte) {
      return static_cast<float>(static_cast<std::int8_t>(byte));
    });
  } else {
    DecodeElements(view_.type, at, count, out);
  }
}

void RowTable::AddRow(std::int64_t row, std::span<double> x) const {
  PV_CHECK(row < rows() && static_cast<std::int64_t>(x.size()) == cols(), "row {} of {} x {}", row,
           rows(), cols());
  std::vector<float> values(x.size());
  Decode(row, values.data());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += Scale(row) * static_cast<double>(values[i]);
}

std::vector<double> RowTable::Multiply(std::span<const double> x) const {
  constexpr std::int64_t kRowsAtOnce = 64;
  PV_CHECK(static_cast<std::int64_t>(x.size()) == cols(), "{} values for {} columns", x.size(),
           cols());
  std::vector<double> y(static_cast<std::size_t>(rows()));
  const auto parts = static_cast<std::size_t>((rows() + kRowsAtOnce - 1) / kRowsAtOnce);
  const bool in_place = view_.floats() != nullptr;
  ParallelFor(parts, [&](std::size_t part) {
    std::vector<float> scratch(in_place ? 0 : x.size());
    const std::int64_t first = static_cast<std::int64_t>(part) * kRowsAtOnce;
    for (std::int64_t r = first; r < std::min(rows(), first + kRowsAtOnce); ++r) {
      if (!in_place) Decode(r, scratch.data());
      const float* row = in_place ? view_.floats() + r * cols() : scratch.data();
      y[static_cast<std::size_t>(r)] = Scale(r) * Dot(row, x);
    }
  });
  return y;
}

}  // namespace polyveil::model
