// polyveil verify: a stranger checks a demonstration run from its files and the model.
#include <algorithm>
#include <bit>
#include <cstdio>
#include <memory>

#include "base/thread_pool.h"
#include "ckks/client/decryptor.h"
#include "ckks/encoder.h"
#include "ckks/seeded.h"
#include "polyveil/commands.h"
#include "polyveil/evidence.h"
#include "polyveil/float_model.h"
#include "polyveil/run_report.h"
#include "serve/client/result_guard.h"
#include "serve/server/served_model.h"
#include "version.h"
#include "wire/ciphertext_format.h"
#include "wire/client/secret_key_file.h"

namespace polyveil::tools {
namespace {

struct VerifyArguments {
  std::string folder, model;
  size_t threads = 0;
};

Status Same(const char* what, const std::string& found, const std::string& expected) {
  if (found == expected) return {};
  return MakeError(ErrorCode::kMismatch, "{}: the run says {}, here it is {}", what, found,
                   expected);
}

// The parts that a step's messages are checked with.
class Verifier {
 public:
  static Result<std::unique_ptr<Verifier>> Create(const VerifyArguments& arguments);
  // Every step in turn; the report's tokens are what JudgeCheck judges.
  Status Run(RunReport& report);
  const Evidence& evidence() const { return evidence_; }

 private:
  Verifier(std::string folder, Evidence evidence, serve::ServedModel served, ClientHalf half,
           ckks::SecretKey key)
      : folder_(std::move(folder)),
        evidence_(std::move(evidence)),
        served_(std::move(served)),
        half_(std::move(half)),
        key_(std::move(key)),
        encoder_(key_.params()),
        guard_({served_.info.d_model, served_.info.result_unit, served_.info.result},
               *key_.params()) {}

  Result<wire::Bytes> Message(int position, bool up) const {
    return wire::ReadFile(EvidenceMessagePath(folder_, position, up), u64{1} << 32);
  }
  wire::MessageBounds Bounds(int position, int level) const;
  std::vector<ckks::Complex> Slots(const ckks::Ciphertext& message) const {
    return encoder_.Decode(ckks::Decryptor(key_).Decrypt(message), key_.params()->slots());
  }
  Status CheckUp(const EvidenceStep& step, std::span<const double> embedding) const;
  Result<std::vector<double>> Logits(const EvidenceStep& step) const;
  Status CheckStep(const EvidenceStep& step, RunReport& report);

  const std::string folder_;
  const Evidence evidence_;
  const serve::ServedModel served_;
  const ClientHalf half_;
  const ckks::SecretKey key_;
  const ckks::Encoder encoder_;
  const serve::ResultGuard guard_;
  std::unique_ptr<ReferenceCheck> check_;
  std::vector<model::TokenId> text_;
  int expected_ = -1;  // the token that the last step picked
};

Result<std::unique_ptr<Verifier>> Verifier::Create(const VerifyArguments& arguments) {
  PV_ASSIGN_OR_RETURN(Evidence evidence, ReadEvidence(arguments.folder));
  PV_ASSIGN_OR_RETURN(const std::string path, FindModel(arguments.model));
  PV_ASSIGN_OR_RETURN(ClientHalf half, LoadClientHalf(path));
  serve::ServeOptions options;
  options.context = model::IsBundle(path) ? 0 : evidence.context;
  PV_ASSIGN_OR_RETURN(
      serve::ServedModel served,
      serve::LoadServedModel(path, evidence.parameters, POLYVEIL_COMMIT, {}, options));
  const serve::ModelInfo& info = served.info;
  PV_RETURN_IF_ERROR(Same("the model's tensors", evidence.tensors_sha256, info.tensors_sha256));
  PV_RETURN_IF_ERROR(Same("the parameters", evidence.parameters_digest, info.parameters_digest));
  PV_RETURN_IF_ERROR(Same("the program", evidence.program_digest, info.program_digest));
  PV_ASSIGN_OR_RETURN(ckks::SecretKey key,
                      wire::ReadSecretKey(EvidenceKeyPath(arguments.folder), std::nullopt));
  PV_RETURN_IF_ERROR(Same("the key", evidence.key_id, ToHex(wire::KeyIdOf(key))));
  PV_RETURN_IF_ERROR(
      Same("the key's parameters", ToHex(key.params()->digest()), info.parameters_digest));
  std::unique_ptr<Verifier> verifier(new Verifier(
      arguments.folder, std::move(evidence), std::move(served), std::move(half), std::move(key)));
  PV_ASSIGN_OR_RETURN(verifier->check_,
                      ReferenceCheck::Create(path, verifier->evidence_.context, *verifier->half_,
                                             verifier->key_.params(), verifier->evidence_.before));
  verifier->text_ = verifier->evidence_.before;
  return verifier;
}

wire::MessageBounds Verifier::Bounds(int position, int level) const {
  wire::MessageBounds bounds;
  bounds.binding = {key_.params()->digest(), DigestFromHex(served_.info.program_digest).value(),
                    wire::KeyIdOf(key_)};
  bounds.position = static_cast<u32>(position);
  bounds.level = level;
  bounds.scale = key_.params()->scale(level);
  return bounds;
}

// What went up is the encryption of the token's embedding.
Status Verifier::CheckUp(const EvidenceStep& step, std::span<const double> embedding) const {
  PV_ASSIGN_OR_RETURN(const wire::Bytes bytes, Message(step.position, true));
  PV_ASSIGN_OR_RETURN(
      const auto seeded,
      wire::ParseToken(*key_.params(), bytes, Bounds(step.position, served_.info.input_level)));
  PV_ASSIGN_OR_RETURN(const ckks::Ciphertext token, ckks::Expand(*key_.params(), seeded));
  const std::vector<ckks::Complex> slots = Slots(token);
  const size_t period = std::bit_ceil(embedding.size());
  double worst = 0;
  for (size_t j = 0; j < slots.size(); ++j) {
    const double value = j % period < embedding.size() ? embedding[j % period] : 0;
    worst = std::max(worst, std::abs(slots[j] - value / served_.info.input_unit));
  }
  if (worst <= guard_.limits().imaginary) return {};
  return MakeError(ErrorCode::kMismatch,
                   "position {}: what went up differs from token {}'s embedding by {:.3g} > {:.3g}",
                   step.position, step.token, worst, guard_.limits().imaginary);
}

Result<std::vector<double>> Verifier::Logits(const EvidenceStep& step) const {
  PV_ASSIGN_OR_RETURN(const wire::Bytes bytes, Message(step.position, false));
  PV_ASSIGN_OR_RETURN(
      const ckks::Ciphertext result,
      wire::ParseResult(*key_.params(), bytes, Bounds(step.position, served_.info.output_level)));
  PV_ASSIGN_OR_RETURN(const auto residual, guard_.Read(Slots(result), step.position + 1));
  return half_->Head(residual);
}

Status Verifier::CheckStep(const EvidenceStep& step, RunReport& report) {
  const int position = static_cast<int>(text_.size()) - half_->prefix();
  if (step.position != position || (expected_ >= 0 && step.token != expected_))
    return MakeError(ErrorCode::kMismatch, "position {}, token {}: expected position {}{}",
                     step.position, step.token, position,
                     expected_ < 0 ? "" : fmt::format(", token {}", expected_));
  text_.push_back(step.token);
  PV_ASSIGN_OR_RETURN(const std::vector<double> embedding, half_->Embed(text_));
  PV_RETURN_IF_ERROR(CheckUp(step, embedding));
  PV_ASSIGN_OR_RETURN(const std::vector<double> logits, Logits(step));
  TokenReport token;
  token.position = step.position;
  token.token = step.token;
  PV_RETURN_IF_ERROR(check_->Compare(embedding, logits, token));
  const auto picked =
      static_cast<int>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  if (step.next >= 0 && step.next != picked)
    return MakeError(ErrorCode::kMismatch,
                     "position {}: the run picked token {}, its result says {}", step.position,
                     step.next, picked);
  expected_ = step.next;
  std::printf("position %4d: token %6d, logit error %.2e (noise allows %.2e)%s\n", step.position,
              step.token, token.logits_error, token.logits_allowed,
              step.next < 0 ? "" : fmt::format(", next {}", step.next).c_str());
  report.tokens.push_back(token);
  return {};
}

Status Verifier::Run(RunReport& report) {
  for (const EvidenceStep& step : evidence_.steps) PV_RETURN_IF_ERROR(CheckStep(step, report));
  return JudgeCheck(report);
}

Status Run(const VerifyArguments& arguments) {
  SetThreads(arguments.threads);
  PV_ASSIGN_OR_RETURN(const auto verifier, Verifier::Create(arguments));
  RunReport report;
  PV_RETURN_IF_ERROR(verifier->Run(report));
  std::printf("verified: %zu steps of model '%s' with parameters '%s'\n", report.tokens.size(),
              verifier->evidence().model.c_str(), verifier->evidence().parameters.c_str());
  return {};
}

}  // namespace

Command DescribeVerify(Options& app) {
  auto a = std::make_shared<VerifyArguments>();
  app.description(
      "Checks a run that `generate --evidence` has recorded: what went up are the tokens' "
      "embeddings,\nwhat came down is the model's answer within the noise, and the tokens follow.");
  app.add_option("folder", a->folder, "of the run")->required();
  app.add_option("--model", a->model, "folder of the run's model (default: the embedded one)");
  AddThreads(app, a->threads);
  return [a] { return Run(*a); };
}

}  // namespace polyveil::tools
