// Ciphertexts as bytes, plain polynomials and matrices.
#include <bit>
#include <cmath>
#include <utility>

#include "api/context.h"
#include "approx/chebyshev.h"
#include "circuits/chebyshev.h"
#include "wire/ciphertext_format.h"

namespace polyveil {
namespace {

wire::Binding BindingOf(const ckks::Parameters& params, const Digest& key_id) {
  wire::Binding binding;
  binding.params = params.digest();
  binding.key_id = key_id;
  return binding;
}

// Nonzero diagonals: y_j = sum_r M[j][j + r] x_(j + r).
circuits::DiagonalMatrix DiagonalsOf(std::span<const Complex> matrix, int dimension) {
  circuits::DiagonalMatrix out;
  out.log_period = std::countr_zero(static_cast<unsigned>(dimension));
  const auto n = static_cast<size_t>(dimension);
  for (size_t r = 0; r < n; ++r) {
    std::vector<Complex> diagonal(n);
    bool nonzero = false;
    for (size_t j = 0; j < n; ++j) {
      diagonal[j] = matrix[j * n + (j + r) % n];
      nonzero = nonzero || diagonal[j] != 0.0;
    }
    if (nonzero || r == 0)
      out.diagonals[circuits::Centred(static_cast<int>(r), dimension)] = std::move(diagonal);
  }
  return out;
}

Status CheckMatrix(const Context::Impl& context, size_t entries, int dimension) {
  const int slots = context.params->slots();
  if (dimension < 2 || dimension > slots || !std::has_single_bit(static_cast<unsigned>(dimension)))
    return MakeError(ErrorCode::kInvalidArgument, "dimension = {} is no power of two of 2..{}",
                     dimension, slots);
  const size_t wanted = static_cast<size_t>(dimension) * static_cast<size_t>(dimension);
  if (entries != wanted)
    return MakeError(ErrorCode::kInvalidArgument, "matrix: {} entries, {} x {} = {} wanted",
                     entries, dimension, dimension, wanted);
  return {};
}

}  // namespace

int Ciphertext::level() const { return impl_->value.level; }
double Ciphertext::scale() const { return impl_->value.scale; }
std::string Ciphertext::key_id() const { return ToHex(impl_->key_id); }

Bytes Ciphertext::Serialize() const {
  const ckks::Parameters& params = *impl_->context->params;
  return wire::FormatResult(params, BindingOf(params, impl_->key_id), 0, impl_->value);
}

Result<Ciphertext> Ciphertext::Parse(const Context& context, std::span<const std::uint8_t> bytes) {
  const auto& impl = context.impl();
  Digest key_id{};
  PV_ASSIGN_OR_RETURN(auto value, wire::ParseAnyResult(*impl->params, bytes, key_id));
  return Ciphertext(std::make_shared<const Impl>(Impl{impl, std::move(value), key_id}));
}

Result<Polynomial> Polynomial::Approximate(const std::function<double(double)>& f, double a,
                                           double b, int degree) {
  if (!(a < b) || !std::isfinite(a) || !std::isfinite(b))
    return MakeError(ErrorCode::kInvalidArgument, "interval [{}, {}] is empty or not finite", a, b);
  if (degree < 0 || degree > circuits::kMaxChebyshevDegree)
    return MakeError(ErrorCode::kInvalidArgument, "degree = {} outside 0..{}", degree,
                     circuits::kMaxChebyshevDegree);
  approx::Chebyshev series = approx::Interpolate(f, a, b, degree);
  PV_RETURN_IF_ERROR(approx::Validate(series, "polynomial"));
  return Polynomial{a, b, std::move(series.coeffs)};
}

int Polynomial::depth() const { return approx::Depth(degree()) + (a == -1 && b == 1 ? 0 : 1); }

double Polynomial::operator()(double x) const { return approx::Chebyshev{a, b, coeffs}(x); }

Result<LinearTransform> LinearTransform::Create(const Context& context,
                                                std::span<const Complex> matrix, int dimension,
                                                int level) {
  const Context::Impl& impl = *context.impl();
  const UsePool scope(impl.pool.get());
  PV_RETURN_IF_ERROR(CheckMatrix(impl, matrix.size(), dimension));
  PV_ASSIGN_OR_RETURN(const int at, impl.LevelOf(level));
  if (at == 0) return MakeError(ErrorCode::kOutOfRange, "level = 0: a matrix takes one level");
  PV_ASSIGN_OR_RETURN(auto value, circuits::LinearTransform::Create(
                                      impl.encoder, DiagonalsOf(matrix, dimension), at,
                                      impl.params->scale(at), impl.params->scale(at - 1)));
  return LinearTransform(
      std::make_shared<const Impl>(Impl{context.impl(), std::move(value), dimension}));
}

Result<LinearTransform> LinearTransform::Create(const Context& context,
                                                std::span<const double> matrix, int dimension,
                                                int level) {
  const std::vector<Complex> complex(matrix.begin(), matrix.end());
  return Create(context, std::span<const Complex>(complex), dimension, level);
}

int LinearTransform::level() const { return impl_->value.level(); }
int LinearTransform::dimension() const { return impl_->dimension; }

}  // namespace polyveil
