#include "bench/layer_bench.h"

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
    PV_RETURN_IF_ERROR(MakeKeys());
    PV_ASSIGN_OR_RETURN(const auto engine,
                        runtime::Engine::Create(std::make_shared<runtime::WeightStore>(
                                                    options_.program, options_.weight_bytes),
                                                keys_));
    runtime::DecoderSession session(engine);
    std::vector<model::BlockReference> polynomial, exact;
    for (const model::Block& block : program_.decoder().blocks) {
      polynomial.emplace_back(block, model::Evaluation::kPolynomial);
      exact.emplace_back(block, model::Evaluation::kExact);
    }
    for (const Values& token : options_.tokens) {
      PV_ASSIGN_OR_RETURN(const Values expected, Through(polynomial, token));
      PV_ASSIGN_OR_RETURN(const Values original, Through(exact, token));
      PV_RETURN_IF_ERROR(Step(session, token, expected, original));
    }
    report_.state_bytes = session.state_bytes();
    report_.peak_rss_bytes = PeakRssBytes();
    report_.estimated = program_.estimate().component_seconds;
    return std::move(report_);
  }

 private:
  static Result<Values> Through(std::vector<model::BlockReference>& blocks, Values x) {
    for (model::BlockReference& block : blocks) {
      PV_ASSIGN_OR_RETURN(x, block.Step(x));
    }
    return x;
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

  Result<ckks::Ciphertext> Encrypt(Values token) const {
    for (double& v : token) v /= program_.units().input;
    token.resize(std::bit_ceil(token.size()));
    const int level = program_.input_level();
    PV_ASSIGN_OR_RETURN(const ckks::Plaintext plain, encoder_.Encode(std::span<const double>(token),
                                                                     level, params_->scale(level)));
    return ckks::Expand(*params_, ckks::Encryptor(secret_).Encrypt(plain));
  }

  Values Decrypt(const ckks::Ciphertext& ciphertext) const {
    const auto width = static_cast<size_t>(program_.width());
    const auto slots = encoder_.Decode(ckks::Decryptor(secret_).Decrypt(ciphertext),
                                       static_cast<int>(std::bit_ceil(width)));
    Values x(width);
    for (size_t i = 0; i < width; ++i) x[i] = slots[i].real() * program_.units().result();
    return x;
  }

  Status Step(runtime::DecoderSession& session, const Values& token, const Values& expected,
              const Values& original) {
    PV_ASSIGN_OR_RETURN(const ckks::Ciphertext input, Encrypt(token));
    std::atomic<bool> cancel = false;
    runtime::StepOptions step;
    step.cancel = &cancel;
    runtime::LatencyTable first;
    const bool warms = report_.tokens.empty() && options_.tokens.size() > 1;
    step.latency = warms ? &first : &report_.latency;
    step.on_progress = [&](const runtime::StepProgress& progress) {
      if (options_.cancelled && options_.cancelled()) cancel = true;
      const double done = static_cast<double>(report_.tokens.size()) + progress.done;
      if (options_.on_progress)
        options_.on_progress(done / static_cast<double>(options_.tokens.size()),
                             *progress.operation);
    };
    Timer timer;
    PV_ASSIGN_OR_RETURN(const ckks::Ciphertext output, session.Step(input, step));
    LayerToken result;
    result.seconds = timer.Seconds();
    const Values actual = Decrypt(output);
    result.error = LargestDifference(actual, expected);
    result.exact_error = LargestDifference(actual, original);
    result.size = LargestDifference(expected, Values(expected.size()));
    result.update = LargestDifference(expected, token);
    for (const double v : expected) result.rms += v * v / static_cast<double>(expected.size());
    result.rms = std::sqrt(result.rms);
    result.output = actual;
    result.polynomial = expected;
    result.exact = original;
    report_.tokens.push_back(std::move(result));
    return {};
  }

  const LayerBenchOptions& options_;
  const compile::CompiledDecoder& program_;
  const ckks::ParametersPtr params_;
  const ckks::SecretKey secret_;
  const ckks::Encoder encoder_;
  std::shared_ptr<ckks::EvaluationKeys> keys_;
  LayerReport report_;
};

}  // namespace

Result<LayerReport> RunLayerBench(const LayerBenchOptions& options) {
  return LayerBench(options).Run();
}

}  // namespace polyveil::bench
