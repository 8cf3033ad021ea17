#include "train/minimal_pairs.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "model/bundle.h"

namespace polyveil::train {
namespace {

using torch::Tensor;
constexpr std::size_t kSentences = 64;  // sentences of one pass

Result<PairSet> LoadSet(const std::filesystem::path& path, int limit) {
  PV_ASSIGN_OR_RETURN(const auto bytes, model::ReadBundleFile(path.string(), 64 << 20));
  std::istringstream in(std::string(bytes.begin(), bytes.end()));
  PairSet set{path.stem().string(), {}};
  int number = 0;
  for (std::string line; static_cast<int>(set.pairs.size()) < limit && std::getline(in, line);) {
    ++number;
    if (line.empty()) continue;
    const auto json = nlohmann::json::parse(line, nullptr, false);
    const auto text = [&](const char* key) {
      return json.is_object() && json.contains(key) && json[key].is_string()
                 ? json[key].get<std::string>()
                 : std::string();
    };
    set.pairs.emplace_back(text("good"), text("bad"));
    if (set.pairs.back().first.empty() || set.pairs.back().second.empty())
      return MakeError(ErrorCode::kCorrupt, "{}, line {}: no texts \"good\" and \"bad\"",
                       path.string(), number);
  }
  return set;
}

// Log-probabilities of texts, padded to the longest.
std::vector<double> LogProbabilities(const Transformer& model,
                                     const std::vector<std::vector<model::TokenId>>& texts) {
  const auto rows = static_cast<std::int64_t>(texts.size());
  std::size_t longest = 0;
  for (const auto& text : texts) longest = std::max(longest, text.size());
  const auto columns = static_cast<std::int64_t>(longest);
  Tensor inputs = torch::full({rows, columns}, model::Tokenizer::kEnd, torch::kInt64);
  Tensor targets = torch::full({rows, columns}, -100, torch::kInt64);
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto& text = texts[static_cast<std::size_t>(r)];
    for (std::size_t t = 0; t < text.size(); ++t) {
      const auto at = r * columns + static_cast<std::int64_t>(t);
      targets.data_ptr<std::int64_t>()[at] = text[t];
      if (t + 1 < text.size()) inputs.data_ptr<std::int64_t>()[at + 1] = text[t];
    }
  }
  const Tensor logits = torch::log_softmax(model.Logits(inputs), 2);
  const Tensor picked = logits.gather(2, targets.clamp_min(0).unsqueeze(2)).squeeze(2);
  const Tensor sums = (picked.to(torch::kFloat64) * (targets >= 0)).sum(1).contiguous();
  return {sums.data_ptr<double>(), sums.data_ptr<double>() + rows};
}

}  // namespace

Result<std::vector<PairSet>> LoadPairSets(const std::string& folder, int limit) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.path().extension() == ".jsonl") paths.push_back(entry.path());
  if (paths.empty()) return MakeError(ErrorCode::kNotFound, "no *.jsonl in {}", folder);
  std::sort(paths.begin(), paths.end());
  std::vector<PairSet> sets;
  for (const auto& path : paths) {
    PV_ASSIGN_OR_RETURN(PairSet set, LoadSet(path, limit));
    sets.push_back(std::move(set));
  }
  return sets;
}

double PairAccuracy(const Transformer& model, const model::Tokenizer& tokenizer,
                    const PairSet& set) {
  torch::NoGradGuard no_grad;
  std::vector<std::vector<model::TokenId>> texts;
  for (const auto& [good, bad] : set.pairs)
    for (const std::string& text : {good, bad}) {
      texts.push_back(tokenizer.Encode(text));
      if (texts.back().size() > static_cast<std::size_t>(model.shape().context))
        texts.back().resize(static_cast<std::size_t>(model.shape().context));
    }
  std::vector<double> scores;
  for (std::size_t begin = 0; begin < texts.size(); begin += kSentences) {
    const std::size_t end = std::min(texts.size(), begin + kSentences);
    const auto part = LogProbabilities(
        model, {texts.begin() + static_cast<long>(begin), texts.begin() + static_cast<long>(end)});
    scores.insert(scores.end(), part.begin(), part.end());
  }
  double right = 0;
  for (std::size_t i = 0; i < scores.size(); i += 2) right += scores[i] > scores[i + 1];
  return right / static_cast<double>(std::max<std::size_t>(1, set.pairs.size()));
}

}  // namespace polyveil::train
