// Operations of the scheme at the top of the demo's chain (27 limbs), at 25 and at 12 limbs.
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

constexpr int kManyLimbs = 27, kFewLimbs = 12, kAddLimbs = 25;

// Counts in units of one limb: N/2 log N butterflies, N products, 8 N bytes.
struct LimbCounts {
  double transforms = 0, products = 0, limbs_moved = 0;

  Work ToWork(const ckks::Parameters& params) const {
    const double n = params.n();
    return {transforms * n / 2 * params.log_n(), products * n, limbs_moved * 8 * n};
  }
};

// Shape of key switching at a level, with a key of that level.
struct SwitchShape {
  SwitchShape(const ckks::Parameters& params, int level)
      : limbs(params.limbs(level)),
        extended(params.extended_limbs(level)),
        digits(params.digits(level)) {}
  double special() const { return extended - limbs; }
  double key_limbs() const { return 2 * digits * extended; }
  // ModUp to all digits, the products with the key, ModDown of both parts by P (and q_level).
  LimbCounts Switch(bool rescale) const {
    const double dropped = special() + rescale, kept = limbs - rescale;
    return {limbs + (digits * extended - limbs) + 2 * dropped + 2 * kept,
            limbs / digits * (digits * extended - limbs) + key_limbs() + 2 * dropped * kept,
            key_limbs() + 4 * limbs};
  }
  LimbCounts HoistedProduct() const {
    return {0, key_limbs() + limbs, key_limbs() + digits * extended + 2 * extended + limbs};
  }

  double limbs, extended, digits;
};

class SchemeRows {
 public:
  SchemeRows(const Section& section, ckks::ParametersPtr params)
      : section_(section),
        params_(std::move(params)),
        secret_(ckks::SecretKey::Generate(params_)),
        encoder_(params_),
        evaluator_(params_, &keys_),
        values_(params_->slots(), ckks::Complex(0.5, -0.25)) {}

  Status Run() {
    PV_RETURN_IF_ERROR(MakeKeys());
    for (const size_t threads : section_.options().threads) {
      SetThreads(threads);
      for (const int limbs : {kManyLimbs, kFewLimbs}) {
        PV_RETURN_IF_ERROR(section_.Begin(fmt::format("{} limbs, {} threads", limbs, threads)));
        PV_RETURN_IF_ERROR(Rotations(limbs));
        PV_RETURN_IF_ERROR(Products(limbs));
      }
      PV_RETURN_IF_ERROR(Additions());
    }
    return {};
  }

 private:
  Status MakeKeys() {
    ckks::KeyRequest request;
    for (const int limbs : {kManyLimbs, kFewLimbs}) {
      request.AddRotation(1, params_->slots(), limbs - 1);
      request.AddRelinearization(limbs - 1);
    }
    PV_ASSIGN_OR_RETURN(keys_, ckks::KeyGenerator(secret_).Generate(request));
    return {};
  }
  Result<ckks::Ciphertext> Encrypt(int level) const {
    PV_ASSIGN_OR_RETURN(const auto plain, encoder_.Encode(values_, level, kScale));
    return ckks::Expand(*params_, ckks::Encryptor(secret_).Encrypt(plain));
  }
  // operation() returns a Result or a Status.
  template <typename Operation>
  Status Time(const char* id, const std::string& name, int limbs, const LimbCounts& counts,
              Operation&& operation) const {
    Status status;
    Row row;
    row.id = fmt::format("{}_{}", id, limbs);
    row.name = fmt::format("{}, {} limbs", name, limbs);
    row.parameters = params_->spec().name;
    row.work = counts.ToWork(*params_);
    row.bytes = row.work.bytes;
    row.measured = Measure(section_.Repetitions(11), 1, [&] {
      const auto result = operation();
      if (!result.ok()) status = result.error();
    });
    PV_RETURN_IF_ERROR(status);
    section_.Add(std::move(row));
    return {};
  }

  Status Rotations(int limbs) const {
    const SwitchShape shape(*params_, limbs - 1);
    PV_ASSIGN_OR_RETURN(const auto x, Encrypt(limbs - 1));
    PV_RETURN_IF_ERROR(Time("rotate", "rotation", limbs, shape.Switch(false),
                            [&] { return evaluator_.Rotate(x, 1); }));
    PV_ASSIGN_OR_RETURN(const auto digits, evaluator_.Decompose(x));
    return Time("rotate_hoisted", "hoisted rotation before ModDown", limbs, shape.HoistedProduct(),
                [&] { return evaluator_.RotateHoistedLazy(x, digits, 1); });
  }

  Status Products(int limbs) const {
    const SwitchShape shape(*params_, limbs - 1);
    PV_ASSIGN_OR_RETURN(const auto x, Encrypt(limbs - 1));
    PV_ASSIGN_OR_RETURN(const auto y, Encrypt(limbs - 1));
    LimbCounts counts = shape.Switch(true);
    counts.products += 6 * limbs;  // the tensor, and P times the parts that stay
    counts.limbs_moved += 2 * limbs;
    PV_RETURN_IF_ERROR(Time("mul_relin_rescale", "ct x ct + relinearise + rescale", limbs, counts,
                            [&] { return evaluator_.MulRescale(x, y); }));
    PV_ASSIGN_OR_RETURN(const auto plain, encoder_.Encode(values_, limbs - 1, kScale));
    const double l = limbs;
    return Time("mul_plain_rescale", "ct x pt + rescale", limbs, {2 * l, 4 * l, 5 * l},
                [&]() -> Status {
                  PV_ASSIGN_OR_RETURN(auto product, evaluator_.MulPlain(x, plain));
                  return evaluator_.RescaleInplace(product);
                });
  }

  Status Additions() const {
    PV_ASSIGN_OR_RETURN(const auto x, Encrypt(kAddLimbs - 1));
    PV_ASSIGN_OR_RETURN(const auto y, Encrypt(kAddLimbs - 1));
    return Time("add", "ct + ct", kAddLimbs, {0, 0, 6.0 * kAddLimbs},
                [&] { return evaluator_.Add(x, y); });
  }

  const Section& section_;
  ckks::ParametersPtr params_;
  ckks::SecretKey secret_;
  ckks::Encoder encoder_;
  ckks::EvaluationKeys keys_;
  ckks::Evaluator evaluator_;
  std::vector<ckks::Complex> values_;
};

}  // namespace

Status MeasureScheme(const Section& section, const ckks::ParametersPtr& params) {
  PV_RETURN_IF_ERROR(section.Begin("keys of the operations"));
  return SchemeRows(section, params).Run();
}

}  // namespace polyveil::bench
