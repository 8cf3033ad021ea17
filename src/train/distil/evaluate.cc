#include "train/distil/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "eval/evaluation.h"
#include "model/float32/reference.h"

namespace polyveil::train {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kBatchTokens = 2048;

Result<std::string> ReadText(const std::string& path) {
  PV_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  return std::string(file->text());
}

// Scores in batches of some thousand tokens.
Result<std::vector<model::TextScore>> ScoreAll(const model::TextScorer& scorer,
                                               const std::vector<model::ScoreRequest>& requests) {
  std::vector<model::TextScore> out;
  for (std::size_t begin = 0; begin < requests.size();) {
    std::size_t end = begin, tokens = 0;
    while (end < requests.size() && (end == begin || tokens < kBatchTokens)) {
      tokens += requests[end].context.size() + requests[end].continuation.size();
      ++end;
    }
    PV_ASSIGN_OR_RETURN(const auto scores,
                        scorer.Score(std::span(requests).subspan(begin, end - begin)));
    out.insert(out.end(), scores.begin(), scores.end());
    begin = end;
  }
  return out;
}

Result<Json> Perplexity(const model::TextScorer& scorer, const std::string& path,
                        const DistilEvaluation& options) {
  PV_ASSIGN_OR_RETURN(const std::string text, ReadText(path));
  const auto tokens = scorer.Encode(text);
  PV_ASSIGN_OR_RETURN(auto windows, model::MakeWindows(tokens, options.window, options.window));
  if (windows.size() > static_cast<std::size_t>(options.windows))
    windows.resize(static_cast<std::size_t>(options.windows));
  PV_ASSIGN_OR_RETURN(const auto scores, ScoreAll(scorer, windows));
  double nats = 0, count = 0;
  int lost = 0;  // windows in which an input left its polynomial's interval too far
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (!std::isfinite(scores[i].log_probability)) {
      ++lost;
      continue;
    }
    nats -= scores[i].log_probability;
    count += static_cast<double>(windows[i].continuation.size());
  }
  return Json{
      {"perplexity", std::exp(nats / count)}, {"scored_tokens", count}, {"window", options.window}};
}

Result<Json> ScoreTask(const model::TextScorer& scorer, const std::string& data,
                       const std::string& name, const DistilEvaluation& options) {
  PV_ASSIGN_OR_RETURN(const std::string text, ReadText(data + "/" + model::TaskFile(name)));
  PV_ASSIGN_OR_RETURN(model::Task task, model::ParseTask(name, text, 0));
  if (task.examples.size() > static_cast<std::size_t>(options.examples))
    task.examples.resize(static_cast<std::size_t>(options.examples));
  std::vector<model::ScoreRequest> requests;
  for (const model::Example& example : task.examples)
    for (model::ScoreRequest& request : model::MakeRequests(scorer, example))
      requests.push_back(std::move(request));
  PV_ASSIGN_OR_RETURN(const auto scores, ScoreAll(scorer, requests));
  std::vector<model::ExampleResult> results;
  std::size_t at = 0;
  for (const model::Example& example : task.examples) {
    results.push_back(model::Judge(example, std::span(scores).subspan(at, example.choices.size())));
    at += example.choices.size();
  }
  const model::TaskSummary s = model::Summarize(results);
  return Json{{"task", name},
              {"examples", s.examples},
              {"accuracy", s.accuracy},
              {"accuracy_error", s.accuracy_error},
              {"normalized_accuracy", s.normalized_accuracy},
              {"gold_perplexity", s.gold_perplexity}};
}

// Mean over a sentence's hidden states, of length 1; one row a sentence.
Result<model::FloatMatrix> Embeddings(const model::Checkpoint& checkpoint,
                                      const std::vector<std::vector<model::TokenId>>& sentences) {
  const model::FloatReference reference(checkpoint);
  model::FloatMatrix out(static_cast<int>(sentences.size()), checkpoint.architecture.d_model);
  for (std::size_t i = 0; i < sentences.size(); ++i) {
    const model::Sequence sequence{sentences[i]};
    PV_ASSIGN_OR_RETURN(const model::FloatMatrix hidden, reference.Hidden(std::span(&sequence, 1)));
    const auto sum = out.row(static_cast<int>(i));
    for (int r = 0; r < hidden.rows; ++r)
      for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += hidden.row(r)[c];
    double square = 0;
    for (const float value : sum) square += static_cast<double>(value) * value;
    for (float& value : sum) value = static_cast<float>(value / std::sqrt(square + 1e-30));
  }
  return out;
}

double Dot(std::span<const float> x, std::span<const float> y) {
  return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
}

std::vector<double> PairCosines(const model::FloatMatrix& x) {
  std::vector<double> out;
  for (int i = 0; i < x.rows; ++i)
    for (int k = 0; k < i; ++k) out.push_back(Dot(x.row(i), x.row(k)));
  return out;
}

std::vector<double> Ranks(const std::vector<double>& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (std::size_t i = 0; i < order.size(); ++i) ranks[order[i]] = static_cast<double>(i);
  return ranks;
}

// Pearson's correlation of the ranks; values that are equal are rare among cosines.
double RankCorrelation(const std::vector<double>& x, const std::vector<double>& y) {
  const std::vector<double> a = Ranks(x), b = Ranks(y);
  const double middle = (static_cast<double>(a.size()) - 1) / 2;
  double both = 0, square = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    both += (a[i] - middle) * (b[i] - middle);
    square += (a[i] - middle) * (a[i] - middle);
  }
  return square > 0 ? both / square : 0;
}

}  // namespace

Result<Json> EvaluateDecoder(const std::string& folder, const std::string& data,
                             const DistilEvaluation& options) {
  Json out = Json::object();
  if (data.empty()) return out;
  PV_ASSIGN_OR_RETURN(auto checkpoint, model::LoadCheckpoint(folder));
  PV_ASSIGN_OR_RETURN(const auto scorer, model::MakeScorer(std::move(checkpoint)));
  if (options.windows > 0) {
    PV_ASSIGN_OR_RETURN(out["wikitext2_valid"],
                        Perplexity(*scorer, data + "/wikitext2-valid.txt", options));
  }
  if (options.examples == 0) return out;
  out["tasks"] = Json::array();
  for (const std::string& name : options.tasks) {
    PV_ASSIGN_OR_RETURN(const Json result, ScoreTask(*scorer, data, name, options));
    out["tasks"].push_back(result);
  }
  return out;
}

Result<Json> EvaluateEncoder(const std::string& original, const std::string& folder,
                             const std::vector<std::string>& sentences, int longest) {
  PV_ASSIGN_OR_RETURN(const auto first, model::LoadCheckpoint(original));
  PV_ASSIGN_OR_RETURN(const auto second, model::LoadCheckpoint(folder));
  PV_ASSIGN_OR_RETURN(const auto tokenizer, model::TextTokenizer::Load(*second));
  std::vector<std::vector<model::TokenId>> tokens;
  for (const std::string& sentence : sentences) {
    tokens.push_back(tokenizer.Encode(sentence, true));
    if (tokens.back().size() > static_cast<std::size_t>(longest))
      tokens.back().resize(static_cast<std::size_t>(longest));
  }
  PV_ASSIGN_OR_RETURN(const model::FloatMatrix x, Embeddings(*first, tokens));
  PV_ASSIGN_OR_RETURN(const model::FloatMatrix y, Embeddings(*second, tokens));
  double cosine = 0, worst = 1;
  for (int i = 0; i < x.rows; ++i) {
    const double c = Dot(x.row(i), y.row(i));
    cosine += c / std::max(1, x.rows);
    worst = std::min(worst, c);
  }
  return Json{{"sentences", x.rows},
              {"mean_cosine", cosine},
              {"worst_cosine", worst},
              {"pair_rank_correlation", RankCorrelation(PairCosines(x), PairCosines(y))}};
}

}  // namespace polyveil::train
