// The Python extension: parameters, ciphertexts, polynomials and matrices; the other files have
// keys, the evaluator, operators, and text.
#include <nanobind/stl/complex.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "binding.h"
#include "polyveil/version.h"

namespace polyveil {
namespace {

using Matrix = nb::ndarray<const Complex, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

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

void BindValues(nb::module_& m) {
  auto ciphertext = nb::class_<Ciphertext>(m, "Ciphertext", "Encrypted complex numbers.");
  ciphertext.attr("__array_ufunc__") = nb::none();  // an array on the left asks us
  ciphertext.def_prop_ro("level", &Ciphertext::level)
      .def_prop_ro("scale", &Ciphertext::scale)
      .def_prop_ro("key_id", &Ciphertext::key_id, "public name of its secret key");
  BindOperators(ciphertext);
  ciphertext
      .def(
          "to_bytes",
          [](const Ciphertext& self) {
            const nb::object array = nb::cast(ToNumpy(Unlocked([&] { return self.Serialize(); })));
            return nb::steal(PyMemoryView_FromObject(array.ptr()));
          },
          nb::sig("def to_bytes(self) -> memoryview"), "Bytes-like: for files, sockets, bytes().")
      .def_static(
          "from_bytes",
          [](const Context& context, const ArrayOf<std::uint8_t>& bytes) {
            return Run([&] { return Ciphertext::Parse(context, SpanOf(bytes)); });
          },
          "context"_a, "bytes"_a,
          nb::sig("def from_bytes(context: Context, bytes: bytes | bytearray | memoryview) -> "
                  "Ciphertext"));
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

}  // namespace
}  // namespace polyveil

NB_MODULE(_polyveil, m) {
  m.attr("__version__") = POLYVEIL_VERSION_STRING;
  m.def("_library_seconds", [] { return polyveil::library_seconds; });
  polyveil::BindErrors(m);
  polyveil::BindContext(m);
  polyveil::BindValues(m);
  polyveil::BindKeys(m);
  polyveil::BindEvaluator(m);
  polyveil::BindModels(m);
  polyveil::BindTexts(m);
}
