#include "model/client/language_model.h"

#include <cmath>

#include "base/worst.h"
#include "model/ngram.h"

namespace polyveil::model {

namespace {

void AddRow(const Matrix& table, std::int64_t index, std::vector<double>& x) {
  const auto row = table.row(static_cast<int>(index));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += row[i];
}

}  // namespace

Result<std::vector<double>> Embed(const ClientBundle& client, std::span<const TokenId> text) {
  const Matrix &embed = client.weights.embed, &pos = client.weights.pos;
  if (text.empty()) return MakeError(ErrorCode::kOutOfRange, "embedding of no token");
  const TokenId token = text.back();
  const auto position = static_cast<std::int64_t>(text.size()) - 1;
  if (token < 0 || token >= embed.rows)
    return MakeError(ErrorCode::kOutOfRange, "token {} outside the vocabulary of {}", token,
                     embed.rows);
  if (position < 0 || position >= pos.rows)
    return MakeError(ErrorCode::kOutOfRange, "position {} outside the context of {}", position,
                     pos.rows);
  const auto e = embed.row(token);
  std::vector<double> x(e.begin(), e.end());
  AddRow(pos, position, x);
  for (std::size_t i = 0; i < client.weights.ngrams.size(); ++i) {
    const Matrix& table = client.weights.ngrams[i];
    const std::size_t n = static_cast<std::size_t>(kSmallestNgram) + i;
    if (text.size() < n) break;
    AddRow(table, NgramRow(text.last(n), table.rows), x);
  }
  return x;
}

Result<std::vector<double>> Head(const ClientBundle& client, std::span<const double> x) {
  const auto& gamma = client.weights.final_gamma;
  if (x.size() != gamma.size())
    return MakeError(ErrorCode::kMismatch, "head: {} values, the model's width is {}", x.size(),
                     gamma.size());
  double squares = 0;
  for (const double value : x) squares += value * value;
  const double mean = squares / static_cast<double>(x.size());
  const double root = 1 / std::sqrt(mean + client.config.final_norm_eps);
  std::vector<double> scaled(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) scaled[i] = gamma[i] * x[i] * root;
  return Multiply(client.weights.embed, scaled);
}

Result<Tokenizer> LoadTokenizer(const std::string& directory) {
  PV_ASSIGN_OR_RETURN(const auto bytes, ReadBundleFile(directory + "/tokenizer.json", 4 << 20));
  return Tokenizer::Parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

Result<LanguageModelBundle> LoadLanguageModel(const std::string& directory) {
  PV_ASSIGN_OR_RETURN(BodyBundle body, LoadBodyBundle(directory));
  PV_ASSIGN_OR_RETURN(ClientBundle client, LoadClientBundle(directory));
  PV_ASSIGN_OR_RETURN(Tokenizer tokenizer, LoadTokenizer(directory));
  if (tokenizer.vocab_size() != client.config.vocab_size)
    return MakeError(ErrorCode::kMismatch, "{}: tokenizer of {} tokens, model of {}", directory,
                     tokenizer.vocab_size(), client.config.vocab_size);
  return LanguageModelBundle{std::move(body), std::move(client), std::move(tokenizer)};
}

Result<std::vector<double>> ReferenceLanguageModel::Step(TokenId token, int position) {
  if (position != static_cast<int>(text_.size()))
    return MakeError(ErrorCode::kOutOfRange, "position {}, {} tokens so far", position,
                     text_.size());
  text_.push_back(token);
  auto logits = [&]() -> Result<std::vector<double>> {
    PV_ASSIGN_OR_RETURN(const auto x0, Embed(client_, text_));
    PV_ASSIGN_OR_RETURN(const auto x, body_.Step(x0));
    return Head(client_, x);
  }();
  if (!logits.ok()) text_.pop_back();
  return logits;
}

namespace {

Result<std::vector<double>> FiniteLogits(ReferenceLanguageModel& model, TokenId token,
                                         int position) {
  PV_ASSIGN_OR_RETURN(auto logits, model.Step(token, position));
  if (AllFinite(logits)) return logits;
  const std::string& site = model.body().first_not_finite();
  return MakeError(ErrorCode::kUntrustedResult,
                   "a value left its interval at token {}: its logits are not finite (first: {})",
                   position + 1, site.empty() ? "the last residual" : site);
}

}  // namespace

Result<std::vector<TokenId>> Generate(ReferenceLanguageModel& model,
                                      const std::vector<TokenId>& prompt, int max_new_tokens,
                                      const SamplingOptions& options) {
  PV_RETURN_IF_ERROR(ValidateSampling(options));
  const int context = model.body().context();
  if (static_cast<int>(prompt.size()) + 1 > context)
    return MakeError(ErrorCode::kOutOfRange, "prompt of {} tokens and the end mark > context {}",
                     prompt.size(), context);
  model.Reset();
  Sampler sampler(options);
  int position = 0;
  PV_ASSIGN_OR_RETURN(auto logits, FiniteLogits(model, Tokenizer::kEnd, position++));
  for (const TokenId token : prompt) {
    PV_ASSIGN_OR_RETURN(logits, FiniteLogits(model, token, position++));
  }
  std::vector<TokenId> out;
  while (static_cast<int>(out.size()) < max_new_tokens) {
    const TokenId next = sampler.Pick(logits);
    if (next == Tokenizer::kEnd) break;
    out.push_back(next);
    if (position == context) break;
    if (static_cast<int>(out.size()) < max_new_tokens) {
      PV_ASSIGN_OR_RETURN(logits, FiniteLogits(model, next, position++));
    }
  }
  return out;
}

}  // namespace polyveil::model
