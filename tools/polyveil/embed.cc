// polyveil embed, polyveil classify: an encoder on ciphertexts; pooling is the client's, and a
// classification head where the server does not run it.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/worst.h"
#include "polyveil/commands.h"
#include "polyveil/encoder_run.h"

namespace polyveil::tools {
namespace {

using Vector = std::vector<double>;

// Of what --check compares: an encrypted result that is further off is not the model's.
constexpr double kLeastCosine = 0.9999;

struct EmbedArguments {
  EncoderOptions run;
  Pooling pooling;
};

double Dot(const Vector& a, const Vector& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

double Cosine(const Vector& a, const Vector& b) {
  return Dot(a, b) / std::sqrt(Dot(a, a) * Dot(b, b));
}

// fn(tokens) of every text, encrypted or in the clear.
template <typename F>
Result<std::vector<Vector>> OfTexts(const std::vector<Residuals>& texts, F&& fn) {
  std::vector<Vector> all;
  for (const Residuals& tokens : texts) {
    PV_ASSIGN_OR_RETURN(Vector one, fn(tokens));
    all.push_back(std::move(one));
  }
  return all;
}

Status Judge(const std::vector<Vector>& encrypted, const std::vector<Vector>& plain,
             nlohmann::json& report) {
  if (plain.empty()) return {};
  double least = 1, worst = 0;
  for (size_t i = 0; i < plain.size(); ++i) {
    const double cosine = Cosine(encrypted[i], plain[i]);
    if (!(cosine >= least)) least = cosine;  // no number is the least of all, and stays
    for (size_t j = 0; j < plain[i].size(); ++j)
      worst = Worse(worst, std::abs(encrypted[i][j] - plain[i][j]));
  }
  std::fprintf(stderr,
               "check against the float64 polynomial model: least cosine %.8f, largest difference "
               "%.3g\n",
               least, worst);
  report["within_noise"] = least >= kLeastCosine;  // errors are for the terminal alone
  if (least >= kLeastCosine) return {};
  return MakeError(ErrorCode::kMismatch, "check: a cosine of {:.6f} < {}", least, kLeastCosine);
}

Status Embed(const EmbedArguments& arguments) {
  PV_ASSIGN_OR_RETURN(const EncoderResults results, RunEncoder(arguments.run));
  const auto pool = [&](const Residuals& tokens) {
    return Pool(*results.half, tokens, arguments.pooling);
  };
  PV_ASSIGN_OR_RETURN(const auto embeddings, OfTexts(results.encrypted, pool));
  PV_ASSIGN_OR_RETURN(const auto plain, OfTexts(results.plain, pool));
  nlohmann::json report = CostToJson(results.report);
  report["runs"] = results.runs;
  report["format"] = "polyveil-embeddings/1";
  report["pooling"] = arguments.pooling.kind;
  report["normalised"] = !arguments.pooling.raw;
  for (size_t i = 0; i < embeddings.size(); ++i) {
    Vector shown = embeddings[i];
    for (double& value : shown) value = Rounded(value);
    for (size_t j = 0; j < shown.size(); ++j) std::printf("%s%.6f", j > 0 ? " " : "", shown[j]);
    std::printf("\n");
    report["texts"].push_back({{"text", results.texts[i]},
                               {"tokens", results.encrypted[i].size()},
                               {"embedding", std::move(shown)}});
  }
  std::fprintf(stderr, "\n%s", CostToText(results).c_str());
  Status judged = Judge(embeddings, plain, report);
  PV_RETURN_IF_ERROR(WriteEncoderReport(arguments.run, results, report));
  return judged;
}

Vector Softmax(Vector logits) {
  const double largest = *std::ranges::max_element(logits);
  double sum = 0;
  for (double& value : logits) sum += value = std::exp(value - largest);
  for (double& value : logits) value /= sum;
  return logits;
}

Status Classify(const EncoderOptions& options) {
  PV_ASSIGN_OR_RETURN(const EncoderResults results, RunEncoder(options));
  const auto classify = [&](const Residuals& tokens) -> Result<Vector> {
    if (results.logits) return tokens.front();
    return results.half->Classify(tokens.front());
  };
  PV_ASSIGN_OR_RETURN(const auto logits, OfTexts(results.encrypted, classify));
  PV_ASSIGN_OR_RETURN(const auto plain, OfTexts(results.plain, classify));
  const std::vector<std::string>& labels = results.half->config().encoder->labels;
  nlohmann::json report = CostToJson(results.report);
  report["runs"] = results.runs;
  report["format"] = "polyveil-classes/1";
  report["head"] = results.logits ? "server" : "client";
  for (size_t i = 0; i < logits.size(); ++i) {
    const Vector shares = Softmax(logits[i]);
    const auto best = static_cast<size_t>(std::ranges::max_element(shares) - shares.begin());
    nlohmann::json of_label;
    for (size_t j = 0; j < labels.size(); ++j) of_label[labels[j]] = Rounded(shares[j]);
    report["texts"].push_back({{"text", results.texts[i]},
                               {"tokens", results.encrypted[i].size()},
                               {"label", labels[best]},
                               {"probabilities", of_label}});
    std::printf("%s %.4f\n", labels[best].c_str(), shares[best]);
  }
  std::fprintf(stderr, "\n%s", CostToText(results).c_str());
  Status judged = Judge(logits, plain, report);
  PV_RETURN_IF_ERROR(WriteEncoderReport(options, results, report));
  return judged;
}

}  // namespace

Command DescribeEmbed(Options& app) {
  auto arguments = std::make_shared<EmbedArguments>();
  app.description(
      "Embeds texts by an encoder (BERT, RoBERTa, MiniLM) on ciphertexts: one line of numbers a "
      "text.\nThe server sees neither texts nor embeddings; how many tokens each text has, it "
      "does.");
  AddEncoderOptions(app, arguments->run);
  AddPooling(app, arguments->pooling);
  app.add_flag("--raw", arguments->pooling.raw, "leave embeddings at their length (default: 1)");
  return [arguments] { return Embed(*arguments); };
}

Command DescribeClassify(Options& app) {
  auto arguments = std::make_shared<EncoderOptions>();
  app.description(
      "Classifies texts by an encoder with a classification head on ciphertexts: a label and its "
      "share\na text.");
  AddEncoderOptions(app, *arguments);
  auto head = std::make_shared<std::string>("client");
  app.add_option(
         "--head", *head,
         "where the classification head runs: client, exactly, or server, on ciphertexts by "
         "forms.json's polynomial")
      ->capture_default_str()
      ->one_of({"client", "server"});
  app.add_option("--second", arguments->second, "a second text that the one is compared with");
  return [arguments, head] {
    arguments->session.head = *head == "server";
    return Classify(*arguments);
  };
}

}  // namespace polyveil::tools
