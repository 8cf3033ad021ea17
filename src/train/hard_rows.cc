#include "train/hard_rows.h"

#include <filesystem>

#include "model/bundle.h"
#include "model/client/language_model.h"
#include "train/draws.h"

namespace polyveil::train {
namespace {

using torch::Tensor;
constexpr int kSwaps = 16;            // tried an exchange
constexpr int kExchangePatience = 8;  // exchanges without a gain, then another start

Status CheckRow(const TokenRow& row, const Shape& shape, const std::string& path) {
  if (row.size() != static_cast<std::size_t>(shape.context))
    return MakeError(ErrorCode::kMismatch, "{}: a row of {} tokens, context {}", path, row.size(),
                     shape.context);
  for (const std::int64_t token : row)
    if (token < 0 || token >= shape.vocab_size)
      return MakeError(ErrorCode::kMismatch, "{}: token {} outside a vocabulary of {}", path, token,
                       shape.vocab_size);
  return {};
}

Status AppendFound(const std::string& path, const Shape& shape, std::vector<TokenRow>& rows) {
  PV_ASSIGN_OR_RETURN(const auto bytes, model::ReadBundleFile(path, 64 << 20));
  const auto json = nlohmann::json::parse(bytes.begin(), bytes.end(), nullptr, false);
  if (!json.is_object() || !json.contains("ends") || !json["ends"].is_array())
    return MakeError(ErrorCode::kCorrupt, "{}: no report of a search", path);
  std::vector<TokenRow> found;
  try {
    for (const auto& end : json["ends"]) {
      found.push_back(end.at("tokens").get<TokenRow>());
      for (const auto& near : end.at("near")) found.push_back(near.get<TokenRow>());
    }
  } catch (const nlohmann::json::exception& error) {
    return MakeError(ErrorCode::kCorrupt, "{}: {}", path, error.what());
  }
  for (TokenRow& row : found) {
    if (row.empty()) continue;  // nothing was tried on this end
    PV_RETURN_IF_ERROR(CheckRow(row, shape, path));
    rows.push_back(std::move(row));
  }
  return {};
}

// Half of the rows by their worst end, half by one end each in turn.
std::vector<std::int64_t> Choose(const Tensor& ratios, std::size_t wanted, std::int64_t turn) {
  std::vector<std::int64_t> chosen;
  const Tensor order = std::get<1>(ratios.amax(0).sort(0, true));
  for (std::size_t i = 0; i < wanted; ++i) {
    const auto end = (turn + static_cast<std::int64_t>(i)) % ratios.size(0);
    chosen.push_back(i % 2 == 0 ? order[static_cast<std::int64_t>(i / 2)].item<std::int64_t>()
                                : ratios[end].argmax().item<std::int64_t>());
  }
  return chosen;
}

// The row, or the neighbour of it that comes furthest beyond the end.
TokenRow Worsened(const Transformer& model, const std::vector<IntervalEnd>& ends, std::size_t end,
                  const TokenRow& row, std::mt19937_64& random) {
  auto rows = SwapTokens(model, row, ends[end], kSwaps, random);
  rows.push_back(row);
  const Tensor ratios = MeasureEnds(model, ends, RowsToBatch(rows));
  return rows[static_cast<std::size_t>(
      ratios[static_cast<std::int64_t>(end)].argmax().item<std::int64_t>())];
}

}  // namespace

Result<HardRows> HardRows::Load(const TrainConfig& config, const Dataset& data,
                                const std::string& data_folder, const std::string& runs) {
  HardRows out;
  out.options_ = *config.polynomial;
  PV_ASSIGN_OR_RETURN(model::Tokenizer tokenizer, model::LoadTokenizer(data_folder));
  out.tokenizer_ = std::make_shared<const model::Tokenizer>(std::move(tokenizer));
  out.inputs_ = std::make_shared<const HardInputs>(RowTokensOf(*out.tokenizer_),
                                                   RowTextsOf(data.train), config.shape.context);
  for (const std::string& file : out.options_.hard_files)
    PV_RETURN_IF_ERROR(AppendFound(std::filesystem::path(runs) / file, config.shape, out.found_));
  return out;
}

std::vector<TokenRow> HardRows::Candidates(std::size_t wanted, std::uint64_t seed,
                                           std::int64_t index) const {
  std::mt19937_64 random = Generator(seed + 15485863, index);
  std::vector<TokenRow> rows;
  const std::size_t drawn = wanted * static_cast<std::size_t>(options_.hard_candidates);
  for (std::size_t i = 0; i < drawn; ++i) {
    if (!found_.empty() && i % 4 == 0) {
      rows.push_back(found_[Below(random, found_.size())]);
    } else if (i % 4 == 1) {  // every token must hold by itself
      rows.push_back(inputs_->Repeated(static_cast<std::int64_t>(
          Below(random, static_cast<std::uint64_t>(inputs_->vocab_size())))));
    } else if (i % 4 == 2) {  // and every short pattern, of which there are too many to list
      rows.push_back(inputs_->Row(InputKind::kRepeatedSpan, random(), i));
    } else {
      rows.push_back(inputs_->Row(kInputKinds[Below(random, std::size(kInputKinds))], random(), i));
    }
  }
  return rows;
}

void HardRows::Replace(const Transformer& model, Batch& batch, std::uint64_t seed,
                       std::int64_t index, int part) {
  const std::int64_t size = batch.inputs.size(0);
  const auto wanted = static_cast<std::size_t>(options_.hard_rows * static_cast<double>(size));
  if (wanted == 0) return;
  const auto rows = Candidates(wanted, seed, index);
  const auto ends = IntervalEnds(model);
  const Tensor ratios = MeasureEnds(model, ends, RowsToBatch(rows));
  const auto chosen = Choose(ratios, wanted, index);
  std::mt19937_64 random = Generator(seed + 32452843, index);
  std::vector<Climb>& climbs = climbs_[part];
  climbs.resize(ends.size());
  const auto worst_at = [&](std::size_t end) {
    return rows[static_cast<std::size_t>(
        ratios[static_cast<std::int64_t>(end)].argmax().item<std::int64_t>())];
  };
  for (std::size_t i = 0; i < wanted; ++i) {
    TokenRow row = rows[static_cast<std::size_t>(chosen[i])];
    if (i % 2 == 0) {
      const auto turn = static_cast<std::size_t>(index) * ((wanted + 1) / 2) + i / 2;
      const std::size_t end = turn % ends.size();
      Climb& climb = climbs[end];
      if (climb.row.empty() || climb.idle >= kExchangePatience) climb = {worst_at(end)};
      row = Worsened(model, ends, end, climb.row, random);
      climb = {row, row == climb.row ? climb.idle + 1 : 0};
    }
    const std::int64_t to = size - 1 - static_cast<std::int64_t>(i);
    batch.inputs[to].copy_(torch::tensor(row));
    batch.targets[to].fill_(-100);
  }
}

}  // namespace polyveil::train
