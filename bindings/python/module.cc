// The Python extension: NumPy arrays in and out, errors as exceptions, the GIL released while the
// library computes.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/complex.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <complex>
#include <span>

#include "polyveil/ckks.h"
#include "polyveil/version.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace polyveil {
namespace {

using Values = nb::ndarray<const Complex, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Matrix = nb::ndarray<const Complex, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

std::span<const Complex> SpanOf(const Values& values) { return {values.data(), values.size()}; }

// fn() without the GIL; its value, or an exception.
template <typename Fn>
auto Run(Fn&& fn) {
  const auto result = [&] {
    const nb::gil_scoped_release unlocked;
    return fn();
  }();
  return result.value();
}

nb::ndarray<nb::numpy, Complex> ToNumpy(const std::vector<Complex>& values) {
  auto* copy = new Complex[values.size()];
  std::ranges::copy(values, copy);
  const nb::capsule owner(copy, [](void* p) noexcept { delete[] static_cast<Complex*>(p); });
  return {copy, {values.size()}, owner};
}

OnProgress WithGil(std::optional<nb::callable> callback) {
  if (!callback) return {};
  return [callback = *callback](double done) {
    const nb::gil_scoped_acquire locked;
    return PyErr_CheckSignals() == 0 && nb::cast<bool>(callback(done));
  };
}

KeyNeeds NeedsOf(std::vector<int> rotations, bool conjugation, bool bootstrapping,
                 std::vector<LinearTransform> transforms) {
  return {std::move(rotations), conjugation, bootstrapping, std::move(transforms)};
}

void BindErrors(nb::module_& m) {
  static nb::object type = nb::exception<ErrorException>(m, "Error");
  type.attr("__doc__") = "What failed: the field and both values; `code` names the kind.";
  nb::register_exception_translator([](const std::exception_ptr& p, void*) {
    try {
      std::rethrow_exception(p);
    } catch (const ErrorException& e) {
      nb::object error = type(e.what());
      error.attr("code") = ErrorCodeName(e.error().code);
      PyErr_SetObject(type.ptr(), error.ptr());
    }
  });
}

void BindContext(nb::module_& m) {
  nb::class_<Context>(m, "Context", "Parameters of the scheme and what is precomputed for them.")
      .def(
          "__init__",
          [](Context* self, const std::string& parameters, int threads, int bootstrap_period,
             bool complex_bootstraps, bool allow_insecure) {
            const ContextOptions options{parameters, threads, bootstrap_period, complex_bootstraps,
                                         allow_insecure};
            new (self) Context(Run([&] { return Context::Create(options); }));
          },
          "parameters"_a = "full16", nb::kw_only(), "threads"_a = 0, "bootstrap_period"_a = 0,
          "complex_bootstraps"_a = false, "allow_insecure"_a = false)
      .def_static("parameter_names", &Context::ParameterNames)
      .def_prop_ro("slots", &Context::slots)
      .def_prop_ro("fresh_level", &Context::fresh_level, "of what encrypt and bootstrap return")
      .def_prop_ro("bootstrap_level", &Context::bootstrap_level,
                   "the lowest from which a bootstrap is possible")
      .def("__repr__", &Context::Describe);
}

// Operators are Python's (operators.py), which knows the evaluator of a ciphertext's key.
nb::object Operate(const char* name, nb::handle self, nb::handle other) {
  return nb::module_::import_("polyveil.operators").attr("operate")(name, self, other);
}

auto Operator(const char* name) {
  return [name](nb::handle self, nb::handle other) { return Operate(name, self, other); };
}

void BindValues(nb::module_& m) {
  auto ciphertext = nb::class_<Ciphertext>(m, "Ciphertext", "Encrypted complex numbers.");
  ciphertext.attr("__array_ufunc__") = nb::none();  // an array on the left asks us
  ciphertext.def_prop_ro("level", &Ciphertext::level)
      .def_prop_ro("scale", &Ciphertext::scale)
      .def_prop_ro("key_id", &Ciphertext::key_id, "public name of its secret key")
      .def("__add__", Operator("add"),
           nb::sig("def __add__(self, other: Ciphertext | complex | numpy.typing.ArrayLike, /) -> "
                   "Ciphertext"))
      .def("__radd__", Operator("add"),
           nb::sig("def __radd__(self, other: Ciphertext | complex | numpy.typing.ArrayLike, /) -> "
                   "Ciphertext"))
      .def("__sub__", Operator("sub"),
           nb::sig("def __sub__(self, other: Ciphertext | complex | numpy.typing.ArrayLike, /) -> "
                   "Ciphertext"))
      .def("__rsub__", Operator("rsub"),
           nb::sig("def __rsub__(self, other: Ciphertext | complex | numpy.typing.ArrayLike, /) -> "
                   "Ciphertext"))
      .def("__mul__", Operator("mul"),
           nb::sig("def __mul__(self, other: Ciphertext | complex | numpy.typing.ArrayLike, /) -> "
                   "Ciphertext"))
      .def("__rmul__", Operator("mul"),
           nb::sig("def __rmul__(self, other: Ciphertext | complex | numpy.typing.ArrayLike, /) -> "
                   "Ciphertext"))
      .def(
          "__neg__", [](nb::handle self) { return Operate("neg", self, nb::none()); },
          nb::sig("def __neg__(self) -> Ciphertext"))
      .def("__lshift__", Operator("rotate"),
           nb::sig("def __lshift__(self, by: int, /) -> Ciphertext"))
      .def("__rshift__", Operator("unrotate"),
           nb::sig("def __rshift__(self, by: int, /) -> Ciphertext"))
      .def(
          "bootstrap", [](nb::handle self) { return Operate("bootstrap", self, nb::none()); },
          nb::sig("def bootstrap(self) -> Ciphertext"))
      .def("to_bytes",
           [](const Ciphertext& self) {
             const Bytes bytes = self.Serialize();
             return nb::bytes(bytes.data(), bytes.size());
           })
      .def_static("from_bytes", [](const Context& context, const nb::bytes& bytes) {
        const std::span view(static_cast<const std::uint8_t*>(bytes.data()), bytes.size());
        return Run([&] { return Ciphertext::Parse(context, view); });
      });
  nb::class_<Polynomial>(m, "Polynomial", "A Chebyshev series on [a, b].")
      .def(
          "__init__",
          [](Polynomial* self, std::vector<double> coefficients, double a, double b) {
            new (self) Polynomial{a, b, std::move(coefficients)};
          },
          "coefficients"_a, "a"_a = -1.0, "b"_a = 1.0)
      .def_static(
          "approximate",
          [](const std::function<double(double)>& f, double a, double b, int degree) {
            return Polynomial::Approximate(f, a, b, degree).value();
          },
          "f"_a, "a"_a, "b"_a, "degree"_a, "Interpolates f at the Chebyshev points of [a, b].")
      .def_ro("a", &Polynomial::a)
      .def_ro("b", &Polynomial::b)
      .def_ro("coefficients", &Polynomial::coeffs)
      .def_prop_ro("degree", &Polynomial::degree)
      .def_prop_ro("depth", &Polynomial::depth, "levels that evaluating it takes")
      .def("__call__", &Polynomial::operator(), "x"_a);
  nb::class_<LinearTransform>(m, "LinearTransform", "y = M x on vectors that repeat.")
      .def(
          "__init__",
          [](LinearTransform* self, const Context& context, const Matrix& matrix, int level) {
            if (matrix.shape(0) != matrix.shape(1))
              throw ErrorException({ErrorCode::kInvalidArgument,
                                    "matrix: " + std::to_string(matrix.shape(0)) + " rows, " +
                                        std::to_string(matrix.shape(1)) + " columns"});
            const std::span entries(matrix.data(), matrix.size());
            new (self) LinearTransform(Run([&] {
              return LinearTransform::Create(context, entries, static_cast<int>(matrix.shape(0)),
                                             level);
            }));
          },
          "context"_a, "matrix"_a, "level"_a = -1)
      .def_prop_ro("level", &LinearTransform::level)
      .def_prop_ro("dimension", &LinearTransform::dimension);
}

void BindKeys(nb::module_& m) {
  nb::class_<EvaluationKeys>(m, "EvaluationKeys", "Public keys for whoever computes.")
      .def_static(
          "read",
          [](const Context& context, const std::string& path, std::vector<int> rotations,
             bool conjugation, bool bootstrapping, std::vector<LinearTransform> transforms) {
            const KeyNeeds needs =
                NeedsOf(std::move(rotations), conjugation, bootstrapping, std::move(transforms));
            return Run([&] { return EvaluationKeys::Read(context, path, needs); });
          },
          "context"_a, "path"_a, nb::kw_only(), "rotations"_a = std::vector<int>(),
          "conjugation"_a = false, "bootstrapping"_a = false,
          "transforms"_a = std::vector<LinearTransform>())
      .def_prop_ro("nbytes", &EvaluationKeys::bytes)
      .def_prop_ro("key_id", &EvaluationKeys::key_id);

  nb::class_<SecretKey>(m, "SecretKey", "Stays with its owner.")
      .def(
          "__init__",
          [](SecretKey* self, const Context& context) {
            new (self) SecretKey(SecretKey::Generate(context));
          },
          "context"_a, "A fresh key.")
      .def_prop_ro("key_id", &SecretKey::key_id)
      .def(
          "write",
          [](const SecretKey& self, const std::string& path,
             const std::optional<std::string>& passphrase) {
            Run([&] { return self.Write(path, passphrase); });
          },
          "path"_a, "passphrase"_a = nb::none())
      .def_static(
          "read",
          [](const Context& context, const std::string& path,
             const std::optional<std::string>& passphrase) {
            return Run([&] { return SecretKey::Read(context, path, passphrase); });
          },
          "context"_a, "path"_a, "passphrase"_a = nb::none())
      .def(
          "make_keys",
          [](const SecretKey& self, std::vector<int> rotations, bool conjugation,
             bool bootstrapping, std::vector<LinearTransform> transforms,
             std::optional<nb::callable> progress) {
            const KeyNeeds needs =
                NeedsOf(std::move(rotations), conjugation, bootstrapping, std::move(transforms));
            const OnProgress on_progress = WithGil(std::move(progress));
            return Run([&] { return self.MakeKeys(needs, on_progress); });
          },
          nb::kw_only(), "rotations"_a = std::vector<int>(), "conjugation"_a = false,
          "bootstrapping"_a = false, "transforms"_a = std::vector<LinearTransform>(),
          "progress"_a = nb::none(), "progress(done) gets 0 to 1; False cancels.")
      .def(
          "write_keys",
          [](const SecretKey& self, const std::string& path, std::vector<int> rotations,
             bool conjugation, bool bootstrapping, std::vector<LinearTransform> transforms,
             std::optional<nb::callable> progress) {
            const KeyNeeds needs =
                NeedsOf(std::move(rotations), conjugation, bootstrapping, std::move(transforms));
            const OnProgress on_progress = WithGil(std::move(progress));
            Run([&] { return self.WriteKeys(path, needs, on_progress); });
          },
          "path"_a, nb::kw_only(), "rotations"_a = std::vector<int>(), "conjugation"_a = false,
          "bootstrapping"_a = false, "transforms"_a = std::vector<LinearTransform>(),
          "progress"_a = nb::none())
      .def(
          "encrypt",
          [](const SecretKey& self, const Values& values, int level) {
            return Run([&] { return self.Encrypt(SpanOf(values), level); });
          },
          "values"_a, "level"_a = -1)
      .def(
          "decrypt",
          [](const SecretKey& self, const Ciphertext& ciphertext, int count) {
            return ToNumpy(Run([&] { return self.Decrypt(ciphertext, count); }));
          },
          "ciphertext"_a, "count"_a = 0);
}

using Binary = Result<Ciphertext> (Evaluator::*)(const Ciphertext&, const Ciphertext&) const;
using Unary = Result<Ciphertext> (Evaluator::*)(const Ciphertext&) const;
using WithPlain = Result<Ciphertext> (Evaluator::*)(const Ciphertext&,
                                                    std::span<const Complex>) const;

void BindEvaluator(nb::module_& m) {
  const auto binary = [](Binary f) {
    return [f](const Evaluator& self, const Ciphertext& a, const Ciphertext& b) {
      return Run([&] { return (self.*f)(a, b); });
    };
  };
  const auto unary = [](Unary f) {
    return [f](const Evaluator& self, const Ciphertext& a) {
      return Run([&] { return (self.*f)(a); });
    };
  };
  const auto with_plain = [](WithPlain f) {
    return [f](const Evaluator& self, const Ciphertext& a, const Values& values) {
      return Run([&] { return (self.*f)(a, SpanOf(values)); });
    };
  };
  nb::class_<Evaluator>(m, "Evaluator", nb::is_weak_referenceable(),
                        "Arithmetic on ciphertexts, without a secret.")
      .def(nb::init<const Context&>(), "context"_a)
      .def(nb::init<const Context&, const EvaluationKeys&>(), "context"_a, "keys"_a)
      .def("add", binary(&Evaluator::Add), "a"_a, "b"_a)
      .def("sub", binary(&Evaluator::Sub), "a"_a, "b"_a)
      .def("mul", binary(&Evaluator::Mul), "a"_a, "b"_a)
      .def("negate", unary(&Evaluator::Negate), "a"_a)
      .def("square", unary(&Evaluator::Square), "a"_a)
      .def("conjugate", unary(&Evaluator::Conjugate), "a"_a)
      .def("bootstrap", unary(&Evaluator::Bootstrap), "a"_a)
      .def("add_plain", with_plain(&Evaluator::AddPlain), "a"_a, "values"_a)
      .def("mul_plain", with_plain(&Evaluator::MulPlain), "a"_a, "values"_a)
      .def(
          "add_constant",
          [](const Evaluator& self, const Ciphertext& a, Complex value) {
            return Run([&] { return self.AddConstant(a, value); });
          },
          "a"_a, "value"_a)
      .def(
          "mul_constant",
          [](const Evaluator& self, const Ciphertext& a, double value) {
            return Run([&] { return self.MulConstant(a, value); });
          },
          "a"_a, "value"_a)
      .def(
          "rotate",
          [](const Evaluator& self, const Ciphertext& a, int by) {
            return Run([&] { return self.Rotate(a, by); });
          },
          "a"_a, "by"_a)
      .def(
          "drop_to",
          [](const Evaluator& self, const Ciphertext& a, int level) {
            return Run([&] { return self.DropTo(a, level); });
          },
          "a"_a, "level"_a)
      .def(
          "apply",
          [](const Evaluator& self, const LinearTransform& transform, const Ciphertext& x) {
            return Run([&] { return self.Apply(transform, x); });
          },
          "transform"_a, "x"_a)
      .def(
          "evaluate",
          [](const Evaluator& self, const Polynomial& polynomial, const Ciphertext& x) {
            return Run([&] { return self.Evaluate(polynomial, x); });
          },
          "polynomial"_a, "x"_a);
}

}  // namespace
}  // namespace polyveil

NB_MODULE(_polyveil, m) {
  m.attr("__version__") = POLYVEIL_VERSION_STRING;
  polyveil::BindErrors(m);
  polyveil::BindContext(m);
  polyveil::BindValues(m);
  polyveil::BindKeys(m);
  polyveil::BindEvaluator(m);
}
