/// @file
/// CKKS with bootstrapping, 128-bit security: vectors of complex numbers that can be added,
/// multiplied, rotated and refreshed while encrypted, by a party that has no key to read them.
///
/// A ciphertext holds slots() complex numbers. Every product costs it a level; at
/// bootstrap_level() or above a bootstrap brings it back to fresh_level(). Scales are kept by the
/// library: operands of different levels meet at the lower one.
///
/// Objects are cheap handles: copies share what they name. Threads: everything here is immutable
/// and may be used from many threads at once. No global state but a pool of memory blocks; loops
/// run on the context's threads.
#pragma once

#include <complex>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "polyveil/export.h"
#include "polyveil/result.h"

namespace polyveil {

using Complex = std::complex<double>;     ///< What a slot holds.
using Bytes = std::vector<std::uint8_t>;  ///< What passes between two parties.

/// How a Context is made.
struct ContextOptions {
  /// A set by name (ParameterNames()): "full16" bootstraps all 32,768 slots and has 12 levels
  /// between bootstraps; "sparse16" has smaller keys and bootstraps a period of up to 2^14 slots.
  std::string parameters = "full16";
  /// Threads of this context's loops, the caller included; 0: shared with the rest of the process,
  /// as many as there are CPUs.
  int threads = 0;
  /// Bootstraps refresh vectors that repeat with this period (a power of two); 0: all slots.
  int bootstrap_period = 0;
  /// Bootstraps keep imaginary parts; else they become zero, at half the cost.
  bool complex_bootstraps = false;
  /// Accept sets that are insecure and for tests only ("test10" to "test13").
  bool allow_insecure = false;
};

/// Parameters of the scheme and what is precomputed for them. Memory: tables of about 0.1 GB at
/// N = 2^16; the first bootstrap adds its matrices.
class POLYVEIL_API Context {
 public:
  /// Errors: kNotFound (the known names), kSecurity (a set for tests), kInvalidArgument (field).
  static Result<Context> Create(const ContextOptions& options = {});
  static std::vector<std::string> ParameterNames();  ///< Those of ContextOptions::parameters.

  int slots() const;            ///< Complex numbers of a ciphertext, N / 2.
  int fresh_level() const;      ///< Of what Encrypt and Bootstrap return.
  int bootstrap_level() const;  ///< The lowest from which a bootstrap is possible.
  /// "N = 2^16, logQP = 1690.0 <= 1747 (2024/463, 128-bit), ..."
  std::string Describe() const;

  /// @cond INTERNAL
  struct Impl;
  const std::shared_ptr<const Impl>& impl() const { return impl_; }
  /// @endcond

 private:
  explicit Context(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

/// slots() encrypted complex numbers. Says nothing of them without the secret key.
class POLYVEIL_API Ciphertext {
 public:
  /// Format: docs/formats/ciphertext.md, about 2 N (level + 1) words.
  Bytes Serialize() const;
  /// Errors: kCorrupt, kMismatch (parameters), kOutOfRange: field and both values.
  static Result<Ciphertext> Parse(const Context& context, std::span<const std::uint8_t> bytes);

  int level() const;           ///< Products that it can still take part in.
  double scale() const;        ///< What its values are multiplied by before they are rounded.
  std::string key_id() const;  ///< Public name of its secret key, hexadecimal.

  /// @cond INTERNAL
  struct Impl;
  explicit Ciphertext(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  const Impl& impl() const { return *impl_; }
  /// @endcond

 private:
  std::shared_ptr<const Impl> impl_;
};

/// A series sum_k coeffs[k] T_k(u) of Chebyshev polynomials, u = (2 x - (a + b)) / (b - a).
struct POLYVEIL_API Polynomial {
  double a = -1;               ///< Where the interval begins.
  double b = 1;                ///< Where it ends.
  std::vector<double> coeffs;  ///< By k, one at least.

  /// Interpolates f at the degree + 1 Chebyshev points of [a, b]. Errors: kInvalidArgument (a >= b,
  /// a degree outside 0..127, a value of f that is not finite).
  static Result<Polynomial> Approximate(const std::function<double(double)>& f, double a, double b,
                                        int degree);
  /// The largest k.
  int degree() const { return static_cast<int>(coeffs.size()) - 1; }
  /// Levels that Evaluator::Evaluate takes: ceil(log2(degree + 1)), one more unless [a, b] is
  /// [-1, 1].
  int depth() const;
  /// Its value, in the clear.
  double operator()(double x) const;
};

/// y = M x on vectors of `dimension` slots that repeat. Precomputed for inputs of one level.
class POLYVEIL_API LinearTransform {
 public:
  /// matrix: dimension x dimension, row by row; dimension a power of two, at most slots(). level:
  /// -1 for fresh_level(); inputs of higher levels are brought down to it. Memory: the nonzero
  /// diagonals at that level. Errors: kInvalidArgument, kOutOfRange (field, both values).
  ///@{
  static Result<LinearTransform> Create(const Context& context, std::span<const Complex> matrix,
                                        int dimension, int level = -1);
  static Result<LinearTransform> Create(const Context& context, std::span<const double> matrix,
                                        int dimension, int level = -1);
  ///@}
  int level() const;      ///< Of its inputs; results are one lower.
  int dimension() const;  ///< Rows and columns.

  /// @cond INTERNAL
  struct Impl;
  const Impl& impl() const { return *impl_; }
  /// @endcond

 private:
  explicit LinearTransform(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

/// What an evaluator will do, beside sums and products: each kind needs keys of its own.
struct KeyNeeds {
  std::vector<int> rotations;  ///< By how many slots, to the left; negative: to the right.
  bool conjugation = false;    ///< Evaluator::Conjugate.
  bool bootstrapping = false;  ///< Evaluator::Bootstrap.
  std::vector<LinearTransform> transforms;  ///< Evaluator::Apply.
};

/// Public: made by the owner of a secret key, for whoever computes. Memory at N = 2^16: 30 to 80 MB
/// a rotation, 4 GB for bootstraps of all slots.
class POLYVEIL_API EvaluationKeys {
 public:
  /// What SecretKey::WriteKeys wrote for the same needs. Errors: kNotFound, kIo, kCorrupt,
  /// kMismatch (other needs: both sizes).
  static Result<EvaluationKeys> Read(const Context& context, const std::string& path,
                                     const KeyNeeds& needs);
  std::size_t bytes() const;   ///< In memory.
  std::string key_id() const;  ///< Of the secret key that made them.

  /// @cond INTERNAL
  struct Impl;
  explicit EvaluationKeys(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  const std::shared_ptr<const Impl>& impl() const { return impl_; }
  /// @endcond

 private:
  std::shared_ptr<const Impl> impl_;
};

/// Gets what is done, in [0, 1]; false cancels.
using OnProgress = std::function<bool(double done)>;

/// Stays with its owner. Wiped when the last copy goes.
class POLYVEIL_API SecretKey {
 public:
  /// A fresh one, from the operating system's randomness.
  static SecretKey Generate(const Context& context);
  /// To a file of mode 0600, sealed with the passphrase if there is one
  /// (docs/formats/secret-key.md). Errors: kIo, kInvalidArgument (an empty passphrase).
  Status Write(const std::string& path,
               std::optional<std::string_view> passphrase = std::nullopt) const;
  /// Errors: kNotFound, kSecurity (others can read the file), kCorrupt, kMismatch (parameters, a
  /// wrong passphrase), kInvalidArgument (one is missing, or given to a file that has none).
  static Result<SecretKey> Read(const Context& context, const std::string& path,
                                std::optional<std::string_view> passphrase = std::nullopt);

  std::string key_id() const;  ///< Its public name, hexadecimal.

  /// In memory. Errors: kCancelled, kResource, kMismatch (a transform of another context).
  Result<EvaluationKeys> MakeKeys(const KeyNeeds& needs, const OnProgress& progress = {}) const;
  /// To a file, one key at a time, which appears complete or not at all. Errors: those of MakeKeys,
  /// kIo.
  Status WriteKeys(const std::string& path, const KeyNeeds& needs,
                   const OnProgress& progress = {}) const;

  /// values: a power of two of them, at most slots(); they repeat. Range: |value| <= 2^20, for
  /// products and bootstraps |value| <= 1 is meant. level: -1 for fresh_level(). Errors:
  /// kInvalidArgument, kOutOfRange (field, both values).
  ///@{
  Result<Ciphertext> Encrypt(std::span<const Complex> values, int level = -1) const;
  Result<Ciphertext> Encrypt(std::span<const double> values, int level = -1) const;
  ///@}
  /// The first `count` slots (a power of two; 0: all). What comes out holds noise that depends on
  /// the key: who hands it on to others must round it first (IND-CPA-D). Errors: kMismatch (another
  /// key's ciphertext), kInvalidArgument.
  Result<std::vector<Complex>> Decrypt(const Ciphertext& ciphertext, int count = 0) const;

 private:
  struct Impl;
  explicit SecretKey(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

/// Arithmetic on ciphertexts, without a secret. Errors of all: kMissingKey (rotation and levels),
/// kMismatch (ciphertexts or keys of two owners or contexts), kOutOfRange (no level left: both).
class POLYVEIL_API Evaluator {
 public:
  /// Without keys: sums, and products with constants and plain vectors.
  explicit Evaluator(const Context& context);
  /// With them: what the keys were made for.
  Evaluator(const Context& context, const EvaluationKeys& keys);

  /// Sums: at the lower level of the two, none is spent. Plain values are a power of two of them
  /// and repeat.
  ///@{
  Result<Ciphertext> Add(const Ciphertext& a, const Ciphertext& b) const;
  Result<Ciphertext> Sub(const Ciphertext& a, const Ciphertext& b) const;
  Result<Ciphertext> Negate(const Ciphertext& a) const;
  Result<Ciphertext> AddPlain(const Ciphertext& a, std::span<const Complex> values) const;
  Result<Ciphertext> AddPlain(const Ciphertext& a, std::span<const double> values) const;
  Result<Ciphertext> SubPlain(const Ciphertext& a, std::span<const Complex> values) const;
  Result<Ciphertext> SubPlain(const Ciphertext& a, std::span<const double> values) const;
  Result<Ciphertext> AddConstant(const Ciphertext& a, Complex value) const;
  ///@}

  /// Products: one level. Plain values as above.
  ///@{
  Result<Ciphertext> Mul(const Ciphertext& a, const Ciphertext& b) const;
  Result<Ciphertext> Square(const Ciphertext& a) const;
  Result<Ciphertext> MulPlain(const Ciphertext& a, std::span<const Complex> values) const;
  Result<Ciphertext> MulPlain(const Ciphertext& a, std::span<const double> values) const;
  Result<Ciphertext> MulConstant(const Ciphertext& a, double value) const;
  ///@}

  /// Slot j of the result is slot j + by of a. No level.
  Result<Ciphertext> Rotate(const Ciphertext& a, int by) const;
  /// Complex conjugates. No level.
  Result<Ciphertext> Conjugate(const Ciphertext& a) const;

  /// One level.
  Result<Ciphertext> Apply(const LinearTransform& transform, const Ciphertext& x) const;
  /// depth() levels. Values outside [a, b] give what the polynomial is there, which may be huge.
  Result<Ciphertext> Evaluate(const Polynomial& polynomial, const Ciphertext& x) const;

  /// From bootstrap_level() or above to fresh_level(). Range: |re|, |im| <= 1; beyond about 1.5 the
  /// result is garbage. Precision at N = 2^16: 13 bits in the worst slot at least.
  Result<Ciphertext> Bootstrap(const Ciphertext& a) const;
  /// Drops levels for nothing, so that what follows is cheaper.
  Result<Ciphertext> DropTo(const Ciphertext& a, int level) const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

}  // namespace polyveil
