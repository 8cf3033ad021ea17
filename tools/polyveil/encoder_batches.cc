#include "polyveil/encoder_batches.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "base/system.h"

namespace polyveil::tools {
namespace {

// Texts of one run: from `first` on as many as have room.
size_t EndOfBatch(const std::vector<model::EncoderText>& texts, size_t first, size_t room) {
  size_t end = first, tokens = 0;
  while (end < texts.size() && tokens + texts[end].tokens.size() <= room)
    tokens += texts[end++].tokens.size();
  return end;
}

Status RunBatch(const model::ClientHalf& half, serve::EncryptedSession& session,
                const std::vector<model::EncoderText>& texts, size_t first, size_t end,
                BatchObserver& observer, std::vector<Residuals>& results) {
  Timer timer;
  std::vector<std::vector<double>> embeddings;
  std::vector<int> lengths;
  for (size_t i = first; i < end; ++i) {
    PV_ASSIGN_OR_RETURN(auto embedded, half.EmbedWhole(texts[i]));
    lengths.push_back(static_cast<int>(embedded.size()));
    std::ranges::move(embedded, std::back_inserter(embeddings));
  }
  const int tokens = static_cast<int>(embeddings.size());
  const auto progress = observer.Asking(first, end, tokens);
  auto read = session.Read(embeddings, progress, lengths);
  observer.Answered();
  if (!read.ok()) return read.error();
  observer.Read(tokens, read->cost, timer.Seconds());
  auto token = read->residuals.begin();
  for (const int length : lengths) {
    results.emplace_back(token, token + length);
    token += length;
  }
  return {};
}

}  // namespace

Result<model::EncoderText> EncodeWithin(const model::ClientHalf& half, const std::string& text,
                                        const std::string& second, int context,
                                        const std::string& place) {
  auto encoded = half.EncodeWhole(text, second);
  if (!encoded.ok())
    return MakeError(encoded.error().code, "{}: {}", place, encoded.error().message);
  if (encoded->tokens.size() > static_cast<size_t>(context))
    return MakeError(ErrorCode::kOutOfRange, "{}: {} tokens, the server reads {} at once", place,
                     encoded->tokens.size(), context);
  return encoded;
}

const serve::PromptInfo& ProgramFor(std::span<const serve::PromptInfo> programs, size_t tokens) {
  const auto fits = std::ranges::find_if(programs, [&](const serve::PromptInfo& each) {
    return static_cast<size_t>(each.tokens) >= tokens;
  });
  return fits == programs.end() ? programs.back() : *fits;
}

Result<std::vector<Residuals>> RunBatches(const model::ClientHalf& half,
                                          serve::EncryptedSession& session,
                                          std::span<const serve::PromptInfo> programs,
                                          const std::vector<model::EncoderText>& texts,
                                          BatchObserver& observer) {
  std::vector<Residuals> results;
  while (results.size() < texts.size()) {
    const size_t first = results.size();
    const int room = ProgramFor(programs, texts[first].tokens.size()).tokens;
    const size_t end = EndOfBatch(texts, first, static_cast<size_t>(room));
    PV_CHECK(end > first, "text {} of {} tokens in a program of {}", first + 1,
             texts[first].tokens.size(), room);
    PV_RETURN_IF_ERROR(RunBatch(half, session, texts, first, end, observer, results));
  }
  return results;
}

void AddPooling(Options& app, Pooling& pooling) {
  app.add_option("--pooling", pooling.kind,
                 "of an encoder: the mean over a text's tokens, or cls: its first token")
      ->capture_default_str()
      ->one_of({"mean", "cls"});
}

Result<std::vector<double>> Pool(const model::ClientHalf& half, const Residuals& tokens,
                                 const Pooling& pooling) {
  const size_t count = pooling.kind == "cls" ? 1 : tokens.size();
  std::vector<double> pooled(static_cast<size_t>(half.width()));
  for (size_t t = 0; t < count; ++t) {
    PV_ASSIGN_OR_RETURN(const auto hidden, half.Hidden(tokens[t]));
    for (size_t i = 0; i < pooled.size(); ++i) pooled[i] += hidden[i] / static_cast<double>(count);
  }
  if (pooling.raw) return pooled;
  const double squares = std::inner_product(pooled.begin(), pooled.end(), pooled.begin(), 0.0);
  for (double& value : pooled) value /= squares > 0 ? std::sqrt(squares) : 1;
  return pooled;
}

double Rounded(double value) { return std::round(value * 1e6) / 1e6; }

}  // namespace polyveil::tools
