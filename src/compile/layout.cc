#include "compile/layout.h"

#include <bit>

#include "base/check.h"

namespace polyveil::compile {

namespace {

Status CheckPowerOfTwo(const char* field, int value) {
  if (value > 0 && std::has_single_bit(static_cast<unsigned>(value))) return {};
  return MakeError(ErrorCode::kOutOfRange, "{} = {}: the decode layout needs a power of two", field,
                   value);
}

Status CheckFeedForward(model::FeedForwardKind kind) {
  if (kind == model::FeedForwardKind::kBilinear) return {};
  return MakeError(ErrorCode::kInvalidArgument, "ffn = {}: encrypted programs support {} only",
                   model::FeedForwardName(kind),
                   model::FeedForwardName(model::FeedForwardKind::kBilinear));
}

}  // namespace

Result<Layout> Layout::Create(const model::ModelConfig& config, int log_slots) {
  PV_RETURN_IF_ERROR(CheckFeedForward(config.ffn));
  PV_RETURN_IF_ERROR(CheckPowerOfTwo("d_model", config.d_model));
  PV_RETURN_IF_ERROR(CheckPowerOfTwo("n_heads", config.n_heads));
  PV_RETURN_IF_ERROR(CheckPowerOfTwo("d_head", config.d_head));
  PV_RETURN_IF_ERROR(CheckPowerOfTwo("d_ff", config.d_ff));
  Layout layout{.log_slots = log_slots,
                .d_model = config.d_model,
                .n_heads = config.n_heads,
                .d_head = config.d_head,
                .d_ff = config.d_ff,
                .context = config.context};
  if (layout.half() < config.d_model) {
    return MakeError(ErrorCode::kOutOfRange, "d_model = {} needs {} slots, the ring has {}",
                     config.d_model, 2 * config.d_model * config.d_model, layout.slots());
  }
  if (config.context > layout.half()) {
    return MakeError(ErrorCode::kOutOfRange,
                     "context = {} > {}, the keys that one ciphertext holds ({} slots)",
                     config.context, layout.half(), layout.slots());
  }
  if (config.d_ff > layout.slots() / config.d_model) {
    return MakeError(ErrorCode::kOutOfRange,
                     "d_ff = {} > {}, the rows that one ciphertext holds ({} slots)", config.d_ff,
                     layout.slots() / config.d_model, layout.slots());
  }
  return layout;
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
