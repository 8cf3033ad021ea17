#include "compile/choice_layout.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace polyveil::compile {

Result<ChoiceLayout> ChoiceLayout::Create(int slots, int width, int vocabulary, int context) {
  const auto padded = [](int value) {
    return static_cast<int>(std::bit_ceil(static_cast<unsigned>(value)));
  };
  ChoiceLayout l;
  l.slots = slots;
  l.width = padded(width);
  l.vocabulary = vocabulary;
  l.period = std::min(std::max(padded(vocabulary), l.width), slots);
  l.parts = vocabulary > l.period ? 2 : 1;
  if (vocabulary < 1 || vocabulary > 2 * slots || l.width > slots)
    return MakeError(ErrorCode::kOutOfRange,
                     "a choice among {} tokens of width {}: {} slots hold {} tokens", vocabulary,
                     width, slots, 2 * slots);
  l.bits = model::TokenBits(vocabulary);
  l.bit_period = padded(std::max(2, l.bits));
  l.page =
      std::clamp(slots / std::max(kPageCopies * l.width, 2 * l.bit_period), 1, padded(context));
  return l;
}

Status ChoiceLayout::CheckToken(int token) const {
  if (token >= 0 && token < vocabulary) return {};
  return MakeError(ErrorCode::kOutOfRange, "token {} outside the vocabulary of {}", token,
                   vocabulary);
}

Result<std::vector<Complex>> PackTokenBits(const ChoiceLayout& layout, int position,
                                           std::span<const std::int32_t> tokens) {
  std::vector<Complex> slots(static_cast<size_t>(layout.slots));
  const int begin = position % layout.message();
  const auto count = std::min(tokens.size(), static_cast<size_t>(layout.message() - begin));
  for (size_t i = 0; i < count; ++i) {
    PV_RETURN_IF_ERROR(layout.CheckToken(tokens[i]));
    const auto block = (static_cast<size_t>(begin) + i) * static_cast<size_t>(layout.bit_period);
    for (int bit = 0; bit < layout.bits; ++bit)
      slots[block + static_cast<size_t>(bit)] = model::TokenBit(tokens[i], bit);
  }
  return slots;
}

bool ReadChoice::decided() const {
  constexpr double kSpread = 0.004;
  return ChosenBits::decided() && spread <= kSpread;
}

namespace {

// The mean of some values, and how far one of them is from it.
double MeanOf(std::span<const double> values, double& spread) {
  double mean = 0;
  for (const double value : values) mean += value / static_cast<double>(values.size());
  for (const double value : values) spread = std::max(spread, std::abs(value - mean));
  return mean;
}

// Of all copies' certainties the one that is furthest from 1. Near a tie the sums follow the noise,
// which differs between copies: each must decide, and they need not agree.
double WorstCertainty(std::span<const Complex> sums) {
  double worst = 1;
  for (const Complex& slot : sums) {
    const double certainty = model::Certainty(slot.real(), slot.imag());
    if (std::abs(certainty - 1) > std::abs(worst - 1)) worst = certainty;
  }
  return worst;
}

}  // namespace

Result<ReadChoice> UnpackChoice(const ChoiceLayout& layout, std::span<const Complex> bits,
                                int position) {
  const auto size = static_cast<size_t>(layout.block()), half = size / 2;
  const auto block = bits.subspan(static_cast<size_t>(layout.place(position)) * size, size);
  for (const Complex& slot : block)
    if (!std::isfinite(slot.real()) || !std::isfinite(slot.imag()))
      return MakeError(ErrorCode::kUntrustedResult, "the choice at token {}: a slot is {} + {} i",
                       position + 1, slot.real(), slot.imag());
  ReadChoice read;
  read.certainty = WorstCertainty(block.subspan(half));
  for (int bit = 0; bit < layout.bits; ++bit) {
    std::vector<double> copies;
    for (auto s = static_cast<size_t>(bit); s < half; s += static_cast<size_t>(layout.bit_period))
      copies.push_back(block[s].real());
    read.Add(bit, MeanOf(copies, read.spread));
  }
  if (read.token < layout.vocabulary) return read;
  read.token = 0;
  read.certainty = 0;
  return read;
}

std::vector<Complex> UnpackResidual(const ChoiceLayout& layout, std::span<const Complex> residuals,
                                    int position) {
  const auto block = residuals.subspan(static_cast<size_t>(layout.place(position) * layout.block()),
                                       static_cast<size_t>(layout.block()));
  return {block.begin(), block.end()};
}

}  // namespace polyveil::compile
