#include <cmath>
#include <utility>

#include "api/context.h"
#include "approx/chebyshev.h"
#include "circuits/chebyshev.h"

namespace polyveil {
namespace {

using ckks::SameScale;

std::string Short(const Digest& digest) {
  return fmt::format("{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3]);
}

}  // namespace

struct Evaluator::Impl {
  std::shared_ptr<const Context::Impl> context;
  std::shared_ptr<const EvaluationKeys::Impl> keys;  // null: none
  Status usable;                                     // whether the keys are of this context
  ckks::Evaluator value;

  const ckks::Parameters& params() const { return *context->params; }

  Status Check(const Ciphertext& a) const {
    PV_RETURN_IF_ERROR(usable);
    if (a.impl().context->params->digest() != params().digest())
      return MakeError(ErrorCode::kMismatch, "ciphertext of {}, the evaluator's parameters are {}",
                       a.impl().context->params->spec().name, params().spec().name);
    if (keys && keys->key_id != a.impl().key_id)
      return MakeError(ErrorCode::kMismatch, "ciphertext of key {}, the evaluation keys are of {}",
                       Short(a.impl().key_id), Short(keys->key_id));
    return {};
  }

  Status Check(const Ciphertext& a, const Ciphertext& b) const {
    PV_RETURN_IF_ERROR(Check(a));
    PV_RETURN_IF_ERROR(Check(b));
    if (a.impl().key_id != b.impl().key_id)
      return MakeError(ErrorCode::kMismatch, "ciphertexts of two keys: {} and {}",
                       Short(a.impl().key_id), Short(b.impl().key_id));
    return {};
  }

  // fn() on the context's threads, as a ciphertext of `like`'s owner.
  template <typename Fn>
  Result<Ciphertext> Run(const Ciphertext& like, Fn&& fn) const {
    const UsePool scope(context->pool.get());
    PV_ASSIGN_OR_RETURN(ckks::Ciphertext result, fn());
    return Ciphertext(std::make_shared<const Ciphertext::Impl>(
        Ciphertext::Impl{context, std::move(result), like.impl().key_id}));
  }

  // What a product at `level` is divided by.
  double Dropped(int level) const {
    double q = 1;
    for (const int prime : params().level(level).primes)
      q *= static_cast<double>(params().q(prime).q);
    return q;
  }

  // The scale of a factor that brings `a` to the nominal scale of the level below.
  Result<double> FactorScale(const ckks::Ciphertext& a) const {
    if (a.level == 0)
      return MakeError(ErrorCode::kOutOfRange, "ciphertext at level 0: a product takes one level");
    return params().scale(a.level - 1) * Dropped(a.level) / a.scale;
  }

  // Both at one level and scale, for a sum; they differ in one of them.
  Result<std::pair<ckks::Ciphertext, ckks::Ciphertext>> Aligned(const ckks::Ciphertext& a,
                                                                const ckks::Ciphertext& b) const {
    if (a.level > b.level) {
      PV_ASSIGN_OR_RETURN(auto moved, value.AdjustTo(a, b.level, b.scale));
      return std::pair(std::move(moved), b);
    }
    if (a.level < b.level) {
      PV_ASSIGN_OR_RETURN(auto moved, value.AdjustTo(b, a.level, a.scale));
      return std::pair(a, std::move(moved));
    }
    if (a.level == 0)
      return MakeError(ErrorCode::kMismatch, "scales {} and {} at level 0", a.scale, b.scale);
    const double scale = params().scale(a.level - 1);
    PV_ASSIGN_OR_RETURN(auto first, value.AdjustTo(a, a.level - 1, scale));
    PV_ASSIGN_OR_RETURN(auto second, value.AdjustTo(b, a.level - 1, scale));
    return std::pair(std::move(first), std::move(second));
  }

  Result<ckks::Ciphertext> TimesConstant(const ckks::Ciphertext& a, double factor) const {
    PV_ASSIGN_OR_RETURN(const double scale, FactorScale(a));
    ckks::Ciphertext product = value.MulConstant(a, factor, scale);
    PV_RETURN_IF_ERROR(value.RescaleInplace(product));
    return product;
  }

  // a and b, combined by f: a sum or a difference.
  template <typename F>
  Result<Ciphertext> Combined(const Ciphertext& a, const Ciphertext& b, F f) const {
    PV_RETURN_IF_ERROR(Check(a, b));
    return Run(a, [&]() -> Result<ckks::Ciphertext> {
      const ckks::Ciphertext &x = a.impl().value, &y = b.impl().value;
      if (x.level == y.level && SameScale(x.scale, y.scale)) return (value.*f)(x, y);
      PV_ASSIGN_OR_RETURN(const auto both, Aligned(x, y));
      return (value.*f)(both.first, both.second);
    });
  }

  // a and plain values, combined by f: a sum or a difference.
  template <typename T, typename F>
  Result<Ciphertext> WithTerm(const Ciphertext& a, std::span<const T> values, F f) const {
    PV_RETURN_IF_ERROR(Check(a));
    return Run(a, [&]() -> Result<ckks::Ciphertext> {
      const ckks::Ciphertext& x = a.impl().value;
      PV_ASSIGN_OR_RETURN(const auto plain, context->encoder.Encode(values, x.level, x.scale));
      return (value.*f)(x, plain);
    });
  }

  template <typename T>
  Result<Ciphertext> WithFactor(const Ciphertext& a, std::span<const T> values) const {
    PV_RETURN_IF_ERROR(Check(a));
    return Run(a, [&]() -> Result<ckks::Ciphertext> {
      const ckks::Ciphertext& x = a.impl().value;
      PV_ASSIGN_OR_RETURN(const double scale, FactorScale(x));
      PV_ASSIGN_OR_RETURN(const auto plain, context->encoder.Encode(values, x.level, scale));
      PV_ASSIGN_OR_RETURN(ckks::Ciphertext product, value.MulPlain(x, plain));
      PV_RETURN_IF_ERROR(value.RescaleInplace(product));
      return product;
    });
  }

  // x on [a, b] brought to [-1, 1].
  Result<ckks::Ciphertext> ToUnit(const Polynomial& p, const ckks::Ciphertext& x) const {
    if (p.a == -1 && p.b == 1) return x;
    PV_ASSIGN_OR_RETURN(ckks::Ciphertext u, TimesConstant(x, 2 / (p.b - p.a)));
    value.AddConstantInplace(u, -(p.a + p.b) / (p.b - p.a));
    return u;
  }
};

Evaluator::Evaluator(const Context& context)
    : impl_(std::make_shared<const Impl>(Impl{context.impl(), nullptr, Status(),
                                              ckks::Evaluator(context.impl()->params, nullptr)})) {}

Evaluator::Evaluator(const Context& context, const EvaluationKeys& keys) {
  const auto& params = context.impl()->params;
  Status usable;
  if (keys.impl()->context->params->digest() != params->digest())
    usable =
        MakeError(ErrorCode::kMismatch, "evaluation keys of {}, the context's parameters are {}",
                  keys.impl()->context->params->spec().name, params->spec().name);
  impl_ = std::make_shared<const Impl>(Impl{context.impl(), keys.impl(), std::move(usable),
                                            ckks::Evaluator(params, &keys.impl()->value)});
}

Result<Ciphertext> Evaluator::Add(const Ciphertext& a, const Ciphertext& b) const {
  return impl_->Combined(a, b, &ckks::Evaluator::Add);
}

Result<Ciphertext> Evaluator::Sub(const Ciphertext& a, const Ciphertext& b) const {
  return impl_->Combined(a, b, &ckks::Evaluator::Sub);
}

Result<Ciphertext> Evaluator::Negate(const Ciphertext& a) const {
  PV_RETURN_IF_ERROR(impl_->Check(a));
  return impl_->Run(
      a, [&]() -> Result<ckks::Ciphertext> { return impl_->value.Negate(a.impl().value); });
}

Result<Ciphertext> Evaluator::AddPlain(const Ciphertext& a, std::span<const Complex> values) const {
  return impl_->WithTerm(a, values, &ckks::Evaluator::AddPlain);
}

Result<Ciphertext> Evaluator::AddPlain(const Ciphertext& a, std::span<const double> values) const {
  return impl_->WithTerm(a, values, &ckks::Evaluator::AddPlain);
}

Result<Ciphertext> Evaluator::SubPlain(const Ciphertext& a, std::span<const Complex> values) const {
  return impl_->WithTerm(a, values, &ckks::Evaluator::SubPlain);
}

Result<Ciphertext> Evaluator::SubPlain(const Ciphertext& a, std::span<const double> values) const {
  return impl_->WithTerm(a, values, &ckks::Evaluator::SubPlain);
}

Result<Ciphertext> Evaluator::AddConstant(const Ciphertext& a, Complex value) const {
  PV_RETURN_IF_ERROR(impl_->Check(a));
  return impl_->Run(a, [&]() -> Result<ckks::Ciphertext> {
    return impl_->value.AddConstant(a.impl().value, value);
  });
}

Result<Ciphertext> Evaluator::Mul(const Ciphertext& a, const Ciphertext& b) const {
  PV_RETURN_IF_ERROR(impl_->Check(a, b));
  return impl_->Run(a, [&] { return impl_->value.MulRescale(a.impl().value, b.impl().value); });
}

Result<Ciphertext> Evaluator::Square(const Ciphertext& a) const {
  PV_RETURN_IF_ERROR(impl_->Check(a));
  return impl_->Run(a, [&] { return impl_->value.SquareRescale(a.impl().value); });
}

Result<Ciphertext> Evaluator::MulPlain(const Ciphertext& a, std::span<const Complex> values) const {
  return impl_->WithFactor(a, values);
}

Result<Ciphertext> Evaluator::MulPlain(const Ciphertext& a, std::span<const double> values) const {
  return impl_->WithFactor(a, values);
}

Result<Ciphertext> Evaluator::MulConstant(const Ciphertext& a, double value) const {
  PV_RETURN_IF_ERROR(impl_->Check(a));
  if (!std::isfinite(value))
    return MakeError(ErrorCode::kInvalidArgument, "value = {} is not finite", value);
  return impl_->Run(a, [&] { return impl_->TimesConstant(a.impl().value, value); });
}

Result<Ciphertext> Evaluator::Rotate(const Ciphertext& a, int by) const {
  PV_RETURN_IF_ERROR(impl_->Check(a));
  return impl_->Run(a, [&] { return impl_->value.Rotate(a.impl().value, by); });
}

Result<Ciphertext> Evaluator::Conjugate(const Ciphertext& a) const {
  PV_RETURN_IF_ERROR(impl_->Check(a));
  return impl_->Run(a, [&] { return impl_->value.Conjugate(a.impl().value); });
}

Result<Ciphertext> Evaluator::Apply(const LinearTransform& transform, const Ciphertext& x) const {
  PV_RETURN_IF_ERROR(impl_->Check(x));
  const circuits::LinearTransform& map = transform.impl().value;
  if (transform.impl().context->params->digest() != impl_->params().digest())
    return MakeError(ErrorCode::kMismatch, "transform of {}, the evaluator's parameters are {}",
                     transform.impl().context->params->spec().name, impl_->params().spec().name);
  return impl_->Run(x, [&]() -> Result<ckks::Ciphertext> {
    const ckks::Ciphertext& from = x.impl().value;
    if (from.level < map.level())
      return MakeError(ErrorCode::kOutOfRange, "ciphertext at level {}, the transform is for {}",
                       from.level, map.level());
    PV_ASSIGN_OR_RETURN(const auto at, impl_->value.AdjustTo(from, map.level(),
                                                             impl_->params().scale(map.level())));
    return map.Apply(impl_->value, at);
  });
}

Result<Ciphertext> Evaluator::Evaluate(const Polynomial& polynomial, const Ciphertext& x) const {
  PV_RETURN_IF_ERROR(impl_->Check(x));
  PV_RETURN_IF_ERROR(
      approx::Validate({polynomial.a, polynomial.b, polynomial.coeffs}, "polynomial"));
  return impl_->Run(x, [&]() -> Result<ckks::Ciphertext> {
    const int level = x.impl().value.level - polynomial.depth();
    if (level < 0)
      return MakeError(ErrorCode::kOutOfRange, "ciphertext at level {}, the polynomial takes {}",
                       x.impl().value.level, polynomial.depth());
    PV_ASSIGN_OR_RETURN(const ckks::Ciphertext u, impl_->ToUnit(polynomial, x.impl().value));
    return circuits::EvaluateChebyshev(impl_->value, u, polynomial.coeffs,
                                       impl_->params().scale(level));
  });
}

Result<Ciphertext> Evaluator::Bootstrap(const Ciphertext& a) const {
  PV_RETURN_IF_ERROR(impl_->Check(a));
  return impl_->Run(a, [&]() -> Result<ckks::Ciphertext> {
    PV_ASSIGN_OR_RETURN(const circuits::Bootstrapper* const bootstrapper,
                        impl_->context->bootstrapper());
    return bootstrapper->Bootstrap(impl_->value, a.impl().value);
  });
}

Result<Ciphertext> Evaluator::DropTo(const Ciphertext& a, int level) const {
  PV_RETURN_IF_ERROR(impl_->Check(a));
  if (level < 0 || level > a.level())
    return MakeError(ErrorCode::kOutOfRange, "level = {} outside 0..{}", level, a.level());
  return impl_->Run(a, [&] {
    return impl_->value.AdjustTo(a.impl().value, level, impl_->params().scale(level));
  });
}

}  // namespace polyveil
