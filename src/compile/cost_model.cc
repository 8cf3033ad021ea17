#include "compile/cost_model.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "ckks/key_plan.h"
#include "ckks/key_shape.h"
#include "compile/levels.h"

namespace polyveil::compile {

namespace {

constexpr int kDoubleAngles = 3, kCosineDegree = 28;  // of circuits::CosineFitSpec
// A term's share of decoding its weights, of turning or transposing them, in gathers: measured on
// matrices of 12 million float16 weights, which no cache holds; small ones take an eighth.
constexpr double kDecodeGathers = 8;
constexpr double kKeyBytesPerSecond =
    150e6;  // packed, checksummed and sent; measured by `polyveil generate`

// Against operations measured inside of programs (docs/decisions/0012-blocks.md). A limb that is
// transformed in a key switch was written by the step before and is read by the one behind it, and
// no cache holds all of them: so many limbs' reads. A factor on the arithmetic fits one machine
// only: from one to the next, transforms gain more than memory does.
constexpr double kTransformStreams = 4.2;
// A hoisted rotation's digits are gathered in the order of the automorphism: for each limb of a
// digit as much as the two limbs of the key beside it.
constexpr double kHoistedStreams = 4;
// A term of a matrix whose diagonals repeat: two products of a limb, their operands from L2
// (transforms_bench, Blocks).
constexpr double kRepeatedTerm = 3;

// What circuits::PlanChebyshev's evaluation costs in ciphertext products, with lazy
// relinearisations: two for every doubling of the degree behind the first.
double ChebyshevProducts(int degree) { return std::max(0.2, 2 * std::log2(degree + 1.0) - 1.8); }

// Diagonals of the factors of a Fourier transform of 2^log_size slots, the stages spread over
// `levels` factors; the first factor wraps around.
std::vector<int> FactorDiagonals(int log_size, int levels) {
  std::vector<int> diagonals;
  for (int i = 0; i < levels; ++i) {
    const int stages = log_size / levels + (i < log_size % levels);
    diagonals.push_back(i == 0 ? 1 << stages : (2 << stages) - 1);
  }
  return diagonals;
}

// Whether a map's diagonals repeat, so that their plaintexts are small.
bool Repeats(const LinearMap& map, const ckks::Parameters& params) {
  return map.period > 0 && map.period < params.slots();
}

}  // namespace

CostModel::CostModel(ckks::ParametersPtr params, MachineSpeed speed)
    : params_(std::move(params)), speed_(speed) {}

double CostModel::Parallel(double seconds) const { return seconds / speed_.threads; }

double CostModel::Transform() const {
  return speed_.ntt_seconds + kTransformStreams * speed_.stream_seconds;
}

void CostModel::UseKeys(const ckks::KeyRequest& keys) {
  rotation_keys_.clear();
  for (const auto& [rotation, level] : keys.rotations) rotation_keys_[rotation].insert(level);
  relinearization_keys_ = keys.relinearization_levels;
  conjugation_keys_ = keys.conjugation_levels;
}

double CostModel::Rotate(int rotation, int level) const {
  const auto keys = rotation_keys_.find(rotation);
  return KeySwitch(level, keys != rotation_keys_.end() ? &keys->second : nullptr);
}

double CostModel::KeySwitch(int level, const std::set<int>* keys) const {
  const int key = keys != nullptr ? ckks::FastestKey(*params_, *keys, level) : -1;
  const int special = params_->special_primes(key < 0 ? level : key);
  const double n = params_->limbs(level), alpha = special, digits = params_->digits(level, special);
  const double ntts = digits * (n + alpha) + 2 * (n + alpha);
  const double products = n * (n + alpha - n / digits) + 2 * alpha * n + 4 * n;
  return Parallel(ntts * Transform() + products * speed_.product_seconds +
                  2 * digits * (n + alpha) * speed_.stream_seconds);
}

double CostModel::HoistedRotation(int level) const {
  const double n = params_->limbs(level), alpha = params_->special_primes(level),
               digits = params_->digits(level);
  return Parallel(kHoistedStreams * digits * (n + alpha) * speed_.stream_seconds +
                  4 * (n + alpha) * speed_.product_seconds);
}

double CostModel::ModUp(int level) const {
  const double n = params_->limbs(level), alpha = params_->special_primes(level),
               digits = params_->digits(level);
  return Parallel(digits * (n + alpha) * Transform() +
                  n * (n + alpha - n / digits) * speed_.product_seconds);
}

double CostModel::Fan(int count, int ahead, int level) const {
  const int decompositions = (count + ahead - 1) / ahead;
  return count * (KeySwitch(level) - ModUp(level)) + decompositions * ModUp(level);
}

double CostModel::Rescale(int level) const {
  return Parallel(2.0 * params_->limbs(level) * (speed_.ntt_seconds + 2 * speed_.stream_seconds));
}

double CostModel::Product(int level) const {
  return KeySwitch(level, &relinearization_keys_) + Rescale(level) +
         Parallel(5.0 * params_->limbs(level) * speed_.stream_seconds);
}

// A product for each term, and a rotation for all but the first.
double CostModel::MulSum(const Node& node, int level) const {
  const auto terms = static_cast<double>(node.inputs.size()) - 1;
  const double term =
      Parallel(params_->limbs(level) * (4 * speed_.product_seconds + 7 * speed_.stream_seconds));
  return Product(level) + (terms - 1) * (term + Rotate(node.step, level));
}

double CostModel::Chebyshev(int degree, int level) const {
  const int depth = std::bit_width(static_cast<unsigned>(degree));
  return ChebyshevProducts(degree) * Product(level + (depth + 1) / 2);
}

double CostModel::Seconds(const Node& node, int level) const {
  const double limbs = params_->limbs(level);
  switch (node.kind) {
    case OpKind::kAdd:
    case OpKind::kSub:
    case OpKind::kMulByI:
      return Parallel(2 * limbs * speed_.stream_seconds);
    case OpKind::kMul:
    case OpKind::kSquare:
      return Product(level + 1);
    case OpKind::kMulSum:
      return MulSum(node, level + 1);
    case OpKind::kMulPlain:
      return Rescale(level + 1) +
             Parallel((limbs + 1) * (speed_.ntt_seconds + 2 * speed_.stream_seconds));
    case OpKind::kLinear:
      return Rotations(node.linear->terms, level + 1, node.linear->baby_steps) +
             Terms(*node.linear, level + 1);
    case OpKind::kBand:
      return Band(node, level);
    case OpKind::kChangeUnit:
      return Rescale(level + 1);
    case OpKind::kAddPlain:
      return node.constant.size() == 1 ? Parallel(limbs * speed_.product_seconds)
                                       : Parallel(limbs * speed_.ntt_seconds);
    case OpKind::kRotate:
    case OpKind::kRotateSum:
      return std::accumulate(
          node.rotations.begin(), node.rotations.end(), 0.0,
          [&](double sum, int rotation) { return sum + Rotate(rotation, level); });
    case OpKind::kConjugate:
      return KeySwitch(level, &conjugation_keys_);
    case OpKind::kChebyshev:
      return Chebyshev(static_cast<int>(node.coeffs.size()) - 1, level);
    case OpKind::kBootstrap:
      return BootstrapSeconds(node.log_period, node.real);
    case OpKind::kInput:
    case OpKind::kState:
    case OpKind::kRescaleUnit:
      return 0;
  }
  return 0;
}

// Baby-step giant-step at the best split: one key switch around all, one per giant step, hoisted
// rotations.
CostModel::Split CostModel::BestSplit(int diagonals, int level, int baby_steps) const {
  Split best;
  const int least = std::clamp(baby_steps, 1, diagonals);
  for (int babies = least; babies <= diagonals; babies *= 2) {
    const int giants = (diagonals + babies - 1) / babies;
    const double seconds = (babies - 1) * HoistedRotation(level) + (giants - 1) * KeySwitch(level);
    if (babies == least || seconds < best.seconds) best = {babies, seconds};
    if (baby_steps > 0) break;
  }
  return best;
}

double CostModel::Rotations(int diagonals, int level, int baby_steps) const {
  return KeySwitch(level) + BestSplit(diagonals, level, baby_steps).seconds;
}

double CostModel::LinearTransform(int diagonals, int level) const {
  const double extended = params_->extended_limbs(level);
  return Rotations(diagonals, level, 0) +
         Parallel(2 * diagonals * extended * speed_.stream_seconds);
}

size_t CostModel::RotationBytes(const LinearMap& map, int level) const {
  const size_t limb = sizeof(u64) * static_cast<size_t>(params_->n());
  return static_cast<size_t>(BestSplit(map.terms, level, map.baby_steps).babies) * 2 * limb *
         static_cast<size_t>(params_->extended_limbs(level));
}

// A matrix' terms are kept as coefficients: a reduction and a transform for every limb, and a
// product with each of a rotation's two. What repeats is multiplied as it is kept.
double CostModel::Terms(const LinearMap& map, int level) const {
  const double seconds = Repeats(map, *params_) ? kRepeatedTerm * speed_.product_seconds
                                                : Transform() + 2 * speed_.stream_seconds;
  return Parallel(map.terms * params_->extended_limbs(level) * seconds);
}

// Rotations of both operands and of the sums, a product with a diagonal and one with the other
// operand for each term, a relinearisation for each sum, rescalings.
double CostModel::Band(const Node& node, int level) const {
  const LinearMap& map = *node.linear;
  const BandSteps steps(node);
  const int sums = level + Depth(node, 1);
  const double n = params_->limbs(level + 2);
  const double encode = Repeats(map, *params_) ? 0 : speed_.encode_seconds + n * speed_.ntt_seconds;
  // Operands are read once for all products of a term, and again behind a rescale of its own.
  const double passes = map.by_term ? 6 : 4;
  const double term =
      Parallel(encode + n * (6 * speed_.product_seconds + passes * speed_.stream_seconds)) +
      (map.by_term ? Rescale(level + 2) : 0);
  const int of_whole = level + Depth(node, steps.whole);
  const double whole = node.reused < 0 ? Fan(steps.terms - steps.groups, steps.ahead, of_whole) +
                                             steps.groups * Rotate(steps.between, of_whole)
                                       : 0;
  const double baby =
      Fan(std::min(steps.size, steps.terms) - 1, steps.ahead, level + Depth(node, 1 - steps.whole));
  const double group = KeySwitch(sums, &relinearization_keys_) + Rotate(steps.group, sums);
  return whole + baby + steps.terms * term + steps.groups * group + Rescale(level + 2) +
         Rescale(level + 1);
}

double CostModel::MakeSeconds(const LinearMap& map, int level) const {
  if (Repeats(map, *params_)) {
    const double part = static_cast<double>(map.period) / params_->slots();
    const double values = speed_.gather_seconds + speed_.encode_seconds;
    return Parallel(map.terms * part *
                    (values + 2 * params_->extended_limbs(level) * speed_.ntt_seconds));
  }
  const double gathers = kDecodeGathers + (map.packed ? 2 : 1);
  const double term = gathers * speed_.gather_seconds + speed_.encode_seconds;
  if (map.terms > 1) return Parallel(map.terms * term);
  return term + Parallel(params_->limbs(level) * speed_.ntt_seconds);
}

size_t CostModel::PlaintextBytes(const LinearMap& map, int level) const {
  const auto n = static_cast<size_t>(params_->n());
  if (Repeats(map, *params_))
    return sizeof(u64) * 2 * static_cast<size_t>(map.period) *
           static_cast<size_t>(params_->extended_limbs(level)) * static_cast<size_t>(map.terms);
  if (map.terms == 1) return sizeof(u64) * n * static_cast<size_t>(params_->limbs(level));
  return sizeof(i32) * n * static_cast<size_t>(map.terms);
}

double CostModel::SlotsToCoeffs(int log_period, int log_size) const {
  const int levels = params_->LevelsWithRole(ckks::LevelRole::kSlotsToCoeffs);
  std::vector<int> diagonals = FactorDiagonals(log_size, levels);
  // Folding real halves doubles the factor that comes first, at the cost of a conjugation.
  if (log_period > log_size) diagonals.back() *= 2;
  double seconds = log_period > log_size ? KeySwitch(levels) : 0;
  for (int i = 0; i < levels; ++i)
    seconds += LinearTransform(diagonals[levels - 1 - i], levels - i);
  return seconds;
}

double CostModel::CoeffsToSlots(int log_size) const {
  const int levels = params_->LevelsWithRole(ckks::LevelRole::kCoeffsToSlots);
  const std::vector<int> diagonals = FactorDiagonals(log_size, levels);
  const int top = params_->max_level();
  double seconds = KeySwitch(top - levels + 1);  // the conjugation
  for (int i = 0; i < levels; ++i) seconds += LinearTransform(diagonals[i], top - i);
  return seconds;
}

// Doublings in pairs: three hoisted rotations each.
double CostModel::Trace(int log_output_period) const {
  const int level =
      params_->max_level() - params_->LevelsWithRole(ckks::LevelRole::kCoeffsToSlots) + 1;
  const int doublings = params_->log_slots() - log_output_period;
  return (doublings + 1) / 2 * KeySwitch(level) + doublings / 2 * 2 * HoistedRotation(level);
}

// The steps of circuits::Bootstrapper. Real slots of a short period are folded to half their size.
double CostModel::BootstrapSeconds(int log_period, bool real) const {
  const bool full = log_period == params_->log_slots();
  const int log_size = log_period - (real && !full && log_period > 0);
  const bool packed = real ? log_size < log_period : !full;
  const int top = params_->max_level();
  double seconds = SlotsToCoeffs(real ? log_period : log_size, log_size);
  seconds += KeySwitch(top) / 2;  // ModRaise
  seconds += CoeffsToSlots(log_size) + Trace(log_size + packed);
  if (packed) seconds += KeySwitch(top);
  const int cts = params_->LevelsWithRole(ckks::LevelRole::kCoeffsToSlots);
  const int eval_mod = params_->LevelsWithRole(ckks::LevelRole::kEvalMod);
  // Packed complex parts are multiplied by their mask beside the plain evaluation.
  const double evaluations = real ? 1 : full ? 2 : 1.6;
  const double products = ChebyshevProducts(kCosineDegree) + kDoubleAngles;
  seconds += evaluations * products * Product(top - cts - eval_mod / 2);
  return seconds;
}

double CostModel::KeyGenerationSeconds(const ckks::KeyRequest& request) const {
  // Each residue of b: a uniform sample, an error sample and its NTT, two products; then packing,
  // checksums and the copies of a file or a connection, which one thread does.
  const KeyBytes bytes = MeasureKeys(*params_, request);
  const double limbs = static_cast<double>(bytes.memory) / 2 / (8.0 * params_->n());
  const double samples = Parallel(limbs * (2.5 * speed_.ntt_seconds + 4 * speed_.product_seconds));
  return samples + static_cast<double>(bytes.wire) / kKeyBytesPerSecond;
}

double CostModel::ExpansionSeconds(double limbs) const {
  return Parallel(limbs * speed_.expand_seconds);
}

KeyBytes MeasureKeys(const ckks::Parameters& params, const ckks::KeyRequest& request) {
  KeyBytes bytes;
  auto add = [&](ckks::KeyKind kind, int level) {
    const ckks::KeyShape shape = ckks::ShapeOf(params, kind, level);
    bytes.memory += shape.expanded_bytes(params.n());
    size_t bits = 0;
    for (const ring::NttTables* table : shape.tables) bits += std::bit_width(table->modulus().q);
    bytes.wire += shape.rows * bits * params.n() / 8;
  };
  for (const auto& [rotation, level] : request.rotations) add(ckks::KeyKind::kGadget, level);
  for (const int level : request.relinearization_levels) add(ckks::KeyKind::kGadget, level);
  for (const int level : request.conjugation_levels) add(ckks::KeyKind::kGadget, level);
  if (request.encapsulation) {
    add(ckks::KeyKind::kToSparse, 0);
    add(ckks::KeyKind::kToDense, params.max_level());
  }
  return bytes;
}

}  // namespace polyveil::compile
