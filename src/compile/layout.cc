#include "compile/layout.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "compile/texts.h"

namespace polyveil::compile {
namespace {

int PowerOfTwo(int value) { return static_cast<int>(std::bit_ceil(static_cast<unsigned>(value))); }

// What one text needs is refused by itself.
Status CheckTexts(const model::BlockShape& shape, int log_slots, int texts) {
  const int most = MostTexts(shape, log_slots);
  if (texts < 1 || !std::has_single_bit(static_cast<unsigned>(texts)))
    return MakeError(ErrorCode::kInvalidArgument, "texts = {}: a power of two is needed", texts);
  if (texts == 1 || texts <= most) return {};
  return MakeError(ErrorCode::kOutOfRange, "texts = {}: a ciphertext of {} slots holds {}", texts,
                   1 << log_slots, most);
}

}  // namespace

Result<BlockLayout> BlockLayout::Create(const model::BlockShape& shape, int context, int log_slots,
                                        int known, int texts) {
  PV_RETURN_IF_ERROR(CheckTexts(shape, log_slots, texts));
  BlockLayout l;
  l.slots = (1 << log_slots) / texts;
  l.texts = texts;
  l.width = PowerOfTwo(shape.d_model);
  l.heads = PowerOfTwo(shape.n_heads);
  l.d_head = shape.d_head;
  if (!std::has_single_bit(static_cast<unsigned>(shape.d_head)))
    return MakeError(ErrorCode::kOutOfRange, "d_head = {}: the block layout needs a power of two",
                     shape.d_head);
  const auto layout = [&](int rows) {
    const int size = l.slots / rows;
    return RowLayout{rows, size, std::min(size, l.width)};
  };
  if (l.width > l.slots)
    return MakeError(ErrorCode::kOutOfRange, "d_model = {} > {} slots", shape.d_model, l.slots);
  if (2 * l.heads * l.d_head > l.slots)
    return MakeError(ErrorCode::kOutOfRange, "{} heads of {} > {}, half of the slots", l.heads,
                     l.d_head, l.slots / 2);
  l.hidden = layout(PowerOfTwo(shape.d_ff));
  if (l.hidden.size < 1)
    return MakeError(ErrorCode::kOutOfRange, "d_ff = {} > {} slots", shape.d_ff, l.slots);
  l.attention = layout(l.heads * l.d_head);
  l.attention.window = std::min(l.keys(), l.width);
  if (known > l.keys() * l.d_head)
    return MakeError(ErrorCode::kOutOfRange, "{} public keys > {}, what a matrix of them holds",
                     known, l.keys() * l.d_head);
  if (known >= l.keys()) l.known_groups = PowerOfTwo(known / l.keys());
  l.chunks = (context - l.InMatrices(known) + l.keys() - 1) / l.keys();
  return l;
}

namespace {

// The tokens from `first` on.
std::vector<Complex> PackBlocks(std::span<const std::vector<double>> tokens, size_t first,
                                const TokenLayout& layout, double unit) {
  std::vector<Complex> packed(static_cast<size_t>(layout.slots));
  const auto blocks = static_cast<size_t>(layout.size), block = packed.size() / blocks;
  for (size_t t = 0; t < 2 * blocks; ++t) {
    const std::vector<double>& token = tokens[std::min(first + t, tokens.size() - 1)];
    const Complex one = t < blocks ? Complex(1 / unit) : Complex(0, 1 / unit);
    for (size_t f = 0; f < token.size(); ++f) packed[t % blocks * block + f] += token[f] * one;
  }
  return packed;
}

}  // namespace

TokenSlots PackTokens(std::span<const std::vector<double>> tokens, const TokenLayout& layout,
                      double unit) {
  TokenSlots all;
  for (int i = 0; layout.blocks && i < layout.ciphertexts(); ++i)
    all.push_back(PackBlocks(tokens, static_cast<size_t>(2 * i * layout.size), layout, unit));
  if (layout.blocks) return all;
  std::vector<Complex> packed(static_cast<size_t>(layout.slots));
  for (int s = 0; s < layout.size; ++s) {
    const int t = s % (layout.size / 2);
    if (t >= layout.tokens) continue;
    const std::vector<double>& token = tokens[std::min(static_cast<size_t>(t), tokens.size() - 1)];
    for (size_t f = 0; f < token.size(); ++f)
      packed[f * static_cast<size_t>(layout.size) + static_cast<size_t>(s)] = token[f] / unit;
  }
  return {packed};
}

std::vector<double> UnpackToken(const TokenSlots& slots, const TokenLayout& layout, int width,
                                int t, double unit) {
  std::vector<double> token;
  const int block = layout.slots / layout.size, half = layout.blocks ? t / layout.size : 0;
  const std::vector<Complex>& there = slots[static_cast<size_t>(half / 2)];
  for (int f = 0; f < width; ++f) {
    const int at = layout.blocks ? t % layout.size * block + f : f * layout.size + t;
    const Complex value = there[static_cast<size_t>(at)];
    token.push_back((half % 2 == 1 ? value.imag() : value.real()) * unit);
  }
  return token;
}

std::vector<double> PackTexts(std::span<const std::vector<double>> embeddings, int texts,
                              double unit) {
  const size_t count = static_cast<size_t>(texts);
  std::vector<double> packed(std::bit_ceil(embeddings.front().size()) * count);
  for (size_t t = 0; t < count; ++t) {
    const std::vector<double>& token = embeddings[std::min(t, embeddings.size() - 1)];
    for (size_t f = 0; f < token.size(); ++f) packed[f * count + t] = token[f] / unit;
  }
  return packed;
}

std::vector<double> UnpackText(std::span<const Complex> slots, int texts, int width, int text,
                               double unit) {
  std::vector<double> token;
  for (int f = 0; f < width; ++f)
    token.push_back(slots[static_cast<size_t>(f * texts + text) % slots.size()].real() * unit);
  return token;
}

std::vector<int> FeatureSum(const BlockLayout& l, const RowLayout& rows) {
  const int first = std::max(rows.size, l.width);
  return DoublingRotations(first, Log2(l.slots / first));
}

int Log2(int power_of_two) {
  PV_CHECK(power_of_two > 0 && std::has_single_bit(static_cast<unsigned>(power_of_two)), "{}",
           power_of_two);
  return std::countr_zero(static_cast<unsigned>(power_of_two));
}

std::vector<int> DoublingRotations(int first, int count) {
  std::vector<int> rotations;
  for (int i = 0; i < count; ++i) rotations.push_back(first * (1 << i));
  return rotations;
}

}  // namespace polyveil::compile
