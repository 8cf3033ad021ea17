#include "bench/layer_bench.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>

#include "base/system.h"
#include "base/worst.h"
#include "ckks/client/decryptor.h"
#include "ckks/client/encryptor.h"
#include "ckks/client/key_generator.h"
#include "ckks/encoder.h"
#include "ckks/seeded.h"
#include "model/block_reference.h"
#include "runtime/decoder_session.h"

namespace polyveil::bench {
namespace {

using Values = std::vector<double>;

class LayerBench {
 public:
  explicit LayerBench(const LayerBenchOptions& options)
      : options_(options),
        program_(*options.program),
        params_(program_.params()),
        secret_(ckks::SecretKey::Generate(params_)),
        encoder_(params_) {}

  Result<LayerReport> Run() {
    PV_ASSIGN_OR_RETURN(const auto polynomial, Through(model::Evaluation::kPolynomial));
    PV_ASSIGN_OR_RETURN(const auto exact, Through(model::Evaluation::kExact));
    PV_RETURN_IF_ERROR(MakeKeys());
    const auto weights =
        std::make_shared<runtime::WeightStore>(options_.program, options_.weight_bytes);
    PV_ASSIGN_OR_RETURN(const auto engine, runtime::Engine::Create(weights, keys_));
    runtime::DecoderSession session(engine);
    report_.estimated = program_.estimate().component_seconds;
    std::vector<Values> read;
    if (options_.at_once > 0) {
      PV_ASSIGN_OR_RETURN(read, ReadAtOnce(session, weights));
    }
    for (const Values& token : options_.tokens) {
      LayerToken result;
      result.polynomial = polynomial[report_.tokens.size()];
      result.exact = exact[report_.tokens.size()];
      if (const size_t i = report_.tokens.size(); i < read.size()) {
        result.seconds = read_seconds_;
        result.output = read[i];
      } else {
        PV_RETURN_IF_ERROR(Step(session, token, result));
      }
      Compare(token, result);
      report_.tokens.push_back(std::move(result));
    }
    report_.state_bytes = session.state_bytes();
    report_.peak_rss_bytes = PeakRssBytes();
    return std::move(report_);
  }

 private:
  // What the blocks make of all tokens in float64. Errors: kMismatch for values that are not
  // finite: encrypted they would not be either, a long time later.
  Result<std::vector<Values>> Through(model::Evaluation evaluation) const {
    std::vector<Values> text = options_.tokens;
    const auto& blocks = program_.decoder().blocks;
    for (size_t layer = 0; layer < blocks.size(); ++layer) {
      PV_ASSIGN_OR_RETURN(text, model::BlockReference(blocks[layer], evaluation).Read(text));
      for (size_t i = 0; i < text.size(); ++i)
        if (!std::ranges::all_of(text[i], [](double x) { return std::isfinite(x); }))
          return MakeError(ErrorCode::kMismatch,
                           "token {} of {}: in float64 layer {} of {} is not finite: what the "
                           "polynomials were fitted on does not cover it (--margin, --text)",
                           i, text.size(), layer, blocks.size());
    }
    return text;
  }

  // One key at a time; those that are not read most stay without their uniform half.
  Status MakeKeys() {
    Timer timer;
    const ckks::KeyRequest& request = program_.keys();
    const ckks::KeyRequest expanded = ckks::KeysToExpand(*params_, request, program_.key_uses(),
                                                         options_.key_storage, options_.key_budget);
    const ckks::KeyGenerator generator(secret_);
    keys_ = std::make_shared<ckks::EvaluationKeys>();
    const auto kept = [&](ckks::KeySwitchKey key, bool expand) {
      if (expand) ckks::ExpandKey(*params_, key).value();  // a key of this generator has its shape
      ++report_.key_count;
      return key;
    };
    for (const auto& [rotation, level] : request.rotations) {
      if (options_.cancelled && options_.cancelled())
        return MakeError(ErrorCode::kCancelled, "cancelled while making keys");
      keys_->rotations[rotation][level] =
          kept(generator.Rotation(rotation, level), expanded.rotations.contains({rotation, level}));
    }
    for (const int level : request.relinearization_levels)
      keys_->relinearization[level] =
          kept(generator.Relinearization(level), expanded.relinearization_levels.contains(level));
    for (const int level : request.conjugation_levels)
      keys_->conjugation[level] =
          kept(generator.Conjugation(level), expanded.conjugation_levels.contains(level));
    if (request.encapsulation) {
      keys_->to_sparse = kept(generator.ToSparse(), expanded.encapsulation);
      keys_->to_dense = kept(generator.ToDense(), expanded.encapsulation);
    }
    report_.keys_seconds = timer.Seconds();
    report_.key_bytes = keys_->bytes();
    report_.wire_key_bytes = program_.estimate().key_bytes_wire;
    return {};
  }

  Result<ckks::Ciphertext> Encrypt(std::span<const ckks::Complex> slots, int level) const {
    PV_ASSIGN_OR_RETURN(const ckks::Plaintext plain,
                        encoder_.Encode(slots, level, params_->scale(level)));
    return ckks::Expand(*params_, ckks::Encryptor(secret_).Encrypt(plain));
  }

  // The first tokens by the shortest program that takes them.
  Result<std::vector<Values>> ReadAtOnce(runtime::DecoderSession& session,
                                         const std::shared_ptr<runtime::WeightStore>& weights) {
    const size_t at = program_.PromptFor(options_.at_once);
    if (at == program_.prompts().size() ||
        static_cast<size_t>(options_.at_once) > options_.tokens.size())
      return MakeError(ErrorCode::kOutOfRange, "{} of {} tokens at once: no program takes them",
                       options_.at_once, options_.tokens.size());
    const auto& prompt = program_.prompts()[at];
    PV_ASSIGN_OR_RETURN(const auto engine, runtime::Engine::Create(weights, keys_, prompt));
    const auto tokens = std::span(options_.tokens).first(static_cast<size_t>(options_.at_once));
    std::vector<ckks::Ciphertext> inputs;
    for (const auto& slots :
         compile::PackTokens(tokens, prompt->token_layout(), prompt->units().input)) {
      PV_ASSIGN_OR_RETURN(ckks::Ciphertext input, Encrypt(slots, prompt->input_level()));
      inputs.push_back(std::move(input));
    }
    report_.estimated = prompt->estimate().component_seconds;
    Timer timer;
    PV_ASSIGN_OR_RETURN(const auto outputs, session.Read(*engine, inputs, options_.at_once,
                                                         Watching(report_.latency, tokens.size())));
    read_seconds_ = timer.Seconds() / options_.at_once;
    compile::TokenSlots slots;
    for (const ckks::Ciphertext& output : outputs)
      slots.push_back(encoder_.Decode(ckks::Decryptor(secret_).Decrypt(output), params_->slots()));
    std::vector<Values> read;
    for (int t = 0; t < options_.at_once; ++t)
      read.push_back(compile::UnpackToken(slots, prompt->token_layout(), program_.width(), t,
                                          prompt->units().result()));
    return read;
  }

  // tokens: that the step is of.
  runtime::StepOptions Watching(runtime::LatencyTable& latency, size_t tokens) {
    runtime::StepOptions step;
    step.cancel = &cancel_;
    step.latency = &latency;
    report_.operations.clear();
    operation_.clear();
    step.on_progress = [this, tokens](const runtime::StepProgress& progress) {
      if (options_.cancelled && options_.cancelled()) cancel_ = true;
      FinishOperation();
      operation_ = *progress.operation;
      const double done =
          static_cast<double>(report_.tokens.size()) + progress.done * static_cast<double>(tokens);
      if (options_.on_progress)
        options_.on_progress(done / static_cast<double>(options_.tokens.size()),
                             *progress.operation);
    };
    return step;
  }

  void FinishOperation() {
    if (!operation_.empty()) report_.operations[operation_] += operation_timer_.Seconds();
    operation_timer_ = {};
  }

  Values Decrypt(const ckks::Ciphertext& ciphertext) const {
    const auto width = static_cast<size_t>(program_.width());
    const auto slots = encoder_.Decode(ckks::Decryptor(secret_).Decrypt(ciphertext),
                                       static_cast<int>(std::bit_ceil(width)));
    Values x(width);
    for (size_t i = 0; i < width; ++i) x[i] = slots[i].real() * program_.units().result();
    return x;
  }

  Status Step(runtime::DecoderSession& session, const Values& token, LayerToken& result) {
    std::vector<ckks::Complex> slots(std::bit_ceil(token.size()));
    for (size_t i = 0; i < token.size(); ++i) slots[i] = token[i] / program_.units().input;
    PV_ASSIGN_OR_RETURN(const ckks::Ciphertext input, Encrypt(slots, program_.input_level()));
    runtime::LatencyTable aside;
    const bool warms = report_.tokens.empty() && options_.tokens.size() > 1;
    Timer timer;
    PV_ASSIGN_OR_RETURN(
        const ckks::Ciphertext output,
        session.Step(input, Watching(warms || options_.at_once > 0 ? aside : report_.latency, 1)));
    result.seconds = timer.Seconds();
    FinishOperation();
    result.output = Decrypt(output);
    return {};
  }

  static void Compare(const Values& token, LayerToken& result) {
    const Values& expected = result.polynomial;
    result.error = LargestDifference(result.output, expected);
    result.exact_error = LargestDifference(result.output, result.exact);
    result.size = LargestDifference(expected, Values(expected.size()));
    result.update = LargestDifference(expected, token);
    for (const double v : expected) result.rms += v * v / static_cast<double>(expected.size());
    result.rms = std::sqrt(result.rms);
  }

  const LayerBenchOptions& options_;
  const compile::CompiledDecoder& program_;
  const ckks::ParametersPtr params_;
  const ckks::SecretKey secret_;
  const ckks::Encoder encoder_;
  std::shared_ptr<ckks::EvaluationKeys> keys_;
  std::atomic<bool> cancel_ = false;
  double read_seconds_ = 0;  // of each token at once
  std::string operation_;    // that runs
  Timer operation_timer_;
  LayerReport report_;
};

}  // namespace

Result<LayerReport> RunLayerBench(const LayerBenchOptions& options) {
  return LayerBench(options).Run();
}

}  // namespace polyveil::bench
