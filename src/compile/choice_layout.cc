#include "compile/choice_layout.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "model/choice.h"

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
  if (vocabulary > kDigitBase * kDigitBase * kDigitBase)
    return MakeError(ErrorCode::kOutOfRange, "a choice among {} tokens: {} digits name {}",
                     vocabulary, kDigits, kDigitBase * kDigitBase * kDigitBase);
  l.bits = std::max(1, static_cast<int>(std::bit_width(static_cast<unsigned>(vocabulary - 1))));
  l.bit_period = padded(std::max(2, l.bits));
  l.page = std::clamp(slots / (kPageCopies * l.width), 1, padded(context));
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
      slots[block + static_cast<size_t>(bit)] = TokenBit(tokens[i], bit);
  }
  return slots;
}

bool ReadChoice::decided() const {
  constexpr double kRounding = 0.25, kSpread = 0.004;
  return certainty >= model::kDecided && certainty <= 2 - model::kDecided &&
         rounding <= kRounding && spread <= kSpread;
}

namespace {

// The mean of some slots, and how far one of them is from it.
Complex MeanOf(std::span<const Complex> slots, double& spread) {
  Complex mean = 0;
  for (const Complex& slot : slots) mean += slot / static_cast<double>(slots.size());
  for (const Complex& slot : slots) spread = std::max(spread, std::abs(slot - mean));
  return mean;
}

}  // namespace

Result<ReadChoice> UnpackChoice(const ChoiceLayout& layout, std::span<const Complex> digits,
                                int position) {
  const auto half = static_cast<size_t>(layout.block() / 2);
  const auto first = static_cast<size_t>(layout.place(position) * layout.block());
  ReadChoice read;
  const Complex low = MeanOf(digits.subspan(first, half), read.spread);
  const Complex high = MeanOf(digits.subspan(first + half, half), read.spread);
  const double values[] = {low.real(), low.imag(), high.real()};
  read.certainty = 1 - high.imag();
  for (int i = kDigits; i-- > 0;) {
    const double digit = values[i] * kDigitBase - 1, nearest = std::round(digit);
    if (!std::isfinite(digit) || !std::isfinite(high.imag()))
      return MakeError(ErrorCode::kUntrustedResult, "the choice at token {}: digit {} is {}",
                       position + 1, i, digit);
    // Nothing was chosen, or several tokens: no digit of a token.
    if (nearest < 0 || nearest >= kDigitBase) {
      read.token = 0;
      read.certainty = 0;
      return read;
    }
    read.rounding = std::max(read.rounding, std::abs(digit - nearest));
    read.token = read.token * kDigitBase + static_cast<int>(nearest);
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
