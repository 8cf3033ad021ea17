// What threads and shared key reads bring: the overhead of a parallel loop, rotations of several
// ciphertexts by one key, ciphertexts against limbs, compact keys against expanded ones.
#include "base/thread_pool.h"
#include "bench/sections.h"
#include "ckks/client/encryptor.h"
#include "ckks/client/key_generator.h"
#include "ckks/client/secret_key.h"
#include "ckks/encoder.h"
#include "ckks/evaluator.h"
#include "ckks/seeded.h"

namespace polyveil::bench {
namespace {

constexpr int kBatchSize = 4;
constexpr size_t kLoopItems = 28;
constexpr double kLoopItemSeconds = 100e-6;

class ThreadRows {
 public:
  ThreadRows(const Section& section, ckks::ParametersPtr params)
      : section_(section),
        params_(std::move(params)),
        level_(params_->max_level()),
        limbs_(fmt::format("{} limbs", params_->limbs(level_))),
        evaluator_(params_, &keys_) {}

  Status Run() {
    PV_RETURN_IF_ERROR(MakeInputs());
    for (const size_t threads : section_.options().threads) {
      SetThreads(threads);
      PV_RETURN_IF_ERROR(section_.Begin(fmt::format("loops and batches, {} threads", threads)));
      LoopOverhead(threads);
      PV_RETURN_IF_ERROR(Batches());
    }
    ckks::CompactKeys(keys_);
    for (const size_t threads : section_.options().threads) {
      SetThreads(threads);
      PV_RETURN_IF_ERROR(section_.Begin(fmt::format("compact keys, {} threads", threads)));
      PV_RETURN_IF_ERROR(Compact());
    }
    return {};
  }

 private:
  Status MakeInputs() {
    const auto secret = ckks::SecretKey::Generate(params_);
    ckks::KeyRequest request;
    request.AddRotation(1, params_->slots(), level_);
    PV_ASSIGN_OR_RETURN(keys_, ckks::KeyGenerator(secret).Generate(request));
    const ckks::Encoder encoder(params_);
    const std::vector<ckks::Complex> values(params_->slots(), ckks::Complex(0.5, -0.25));
    PV_ASSIGN_OR_RETURN(const auto plain, encoder.Encode(values, level_, kScale));
    for (int k = 0; k < kBatchSize; ++k) {
      PV_ASSIGN_OR_RETURN(inputs_.emplace_back(),
                          ckks::Expand(*params_, ckks::Encryptor(secret).Encrypt(plain)));
    }
    for (const ckks::Ciphertext& input : inputs_) pointers_.push_back(&input);
    key_bytes_ = static_cast<double>(keys_.bytes());
    return {};
  }

  void Add(const char* id, std::string name, Measured measured, double per, double bytes) const {
    Row row;
    row.id = id;
    row.name = std::move(name);
    row.parameters = params_->spec().name;
    measured.seconds /= per;
    measured.least_seconds /= per;
    measured.cpu_seconds /= per;
    row.measured = measured;
    row.bytes = bytes;
    section_.Add(std::move(row));
  }

  // A loop of items of 100 us, as one over limbs, less the time that they take anyway.
  void LoopOverhead(size_t threads) const {
    const auto item = [](size_t) {
      const Timer timer;
      while (timer.Seconds() < kLoopItemSeconds) {
      }
    };
    Measured loop = Measure(section_.Repetitions(11), 10, [&] { ParallelFor(kLoopItems, item); });
    const double ideal =
        kLoopItemSeconds * static_cast<double>((kLoopItems + threads - 1) / threads);
    loop.seconds -= ideal;
    loop.least_seconds -= ideal;
    Add("loop_overhead", fmt::format("a loop of {} items, overhead", kLoopItems), loop, 1, 0);
  }

  // body() returns a Result or a Status; seconds are per ciphertext.
  template <typename Body>
  Status Time(const char* id, std::string name, double ciphertexts, Body&& body) const {
    Status status;
    const Measured measured = Measure(section_.Repetitions(7), 1, [&] {
      const auto result = body();
      if (!result.ok()) status = result.error();
    });
    PV_RETURN_IF_ERROR(status);
    Add(id, std::move(name), measured, ciphertexts, key_bytes_);
    return {};
  }

  Status Batches() const {
    PV_RETURN_IF_ERROR(Time("rotate_single", "rotation, one ciphertext, " + limbs_, 1,
                            [&] { return evaluator_.Rotate(inputs_[0], 1); }));
    PV_RETURN_IF_ERROR(Time("rotate_many", "rotation of 4 by one key, each, " + limbs_, kBatchSize,
                            [&] { return evaluator_.RotateMany(pointers_, 1); }));
    return Time("rotate_each", "4 rotations side by side, each, " + limbs_, kBatchSize,
                [&]() -> Status {
                  std::vector<Status> statuses(kBatchSize);
                  ParallelFor(kBatchSize, [&](size_t k) {
                    const auto result = evaluator_.Rotate(inputs_[k], 1);
                    if (!result.ok()) statuses[k] = result.error();
                  });
                  for (const Status& status : statuses) PV_RETURN_IF_ERROR(status);
                  return {};
                });
  }

  Status Compact() const {
    const std::string limbs = limbs_ + ", compact key";
    PV_RETURN_IF_ERROR(Time("rotate_compact", "rotation, " + limbs, 1,
                            [&] { return evaluator_.Rotate(inputs_[0], 1); }));
    PV_RETURN_IF_ERROR(Time("rotate_many_compact", "rotation of 4, each, " + limbs, kBatchSize,
                            [&] { return evaluator_.RotateMany(pointers_, 1); }));
    PV_ASSIGN_OR_RETURN(const auto digits, evaluator_.Decompose(inputs_[0]));
    return Time("rotate_hoisted_compact", "hoisted rotation before ModDown, " + limbs, 1,
                [&] { return evaluator_.RotateHoistedLazy(inputs_[0], digits, 1); });
  }

  const Section& section_;
  ckks::ParametersPtr params_;
  const int level_;
  const std::string limbs_;
  ckks::EvaluationKeys keys_;
  ckks::Evaluator evaluator_;
  std::vector<ckks::Ciphertext> inputs_;
  std::vector<const ckks::Ciphertext*> pointers_;
  double key_bytes_ = 0;
};

}  // namespace

Status MeasureThreading(const Section& section, const ckks::ParametersPtr& params) {
  return ThreadRows(section, params).Run();
}

}  // namespace polyveil::bench
