// Arithmetic, by methods and by operators.
#include <nanobind/stl/complex.h>

#include <stdexcept>
#include <unordered_map>
#include <variant>

#include "binding.h"

namespace polyveil {
namespace {

using Binary = Result<Ciphertext> (Evaluator::*)(const Ciphertext&, const Ciphertext&) const;
using Unary = Result<Ciphertext> (Evaluator::*)(const Ciphertext&) const;
template <typename T>
using WithPlain = Result<Ciphertext> (Evaluator::*)(const Ciphertext&, std::span<const T>) const;

class LiveEvaluator;

// Those alive, by the key that their keys are of. Under the GIL. Never destroyed: Python's objects
// may outlive the extension's.
std::unordered_map<std::string, const LiveEvaluator*>& LiveEvaluators() {
  static auto* const live = new std::unordered_map<std::string, const LiveEvaluator*>();
  return *live;
}

// What operators find while it lives.
class LiveEvaluator : public Evaluator {
 public:
  LiveEvaluator(const Context& context, const EvaluationKeys* keys)
      : Evaluator(keys ? Evaluator(context, *keys) : Evaluator(context)),
        key_id_(keys ? keys->key_id() : "") {
    if (keys) LiveEvaluators()[key_id_] = this;
  }
  LiveEvaluator(const LiveEvaluator&) = delete;
  LiveEvaluator& operator=(const LiveEvaluator&) = delete;
  ~LiveEvaluator() {
    const auto found = LiveEvaluators().find(key_id_);
    if (found != LiveEvaluators().end() && found->second == this) LiveEvaluators().erase(found);
  }

 private:
  std::string key_id_;
};

// A handle of its own: another thread may drop the object meanwhile.
Evaluator EvaluatorOf(const Ciphertext& x) {
  const std::string key_id = x.key_id();
  const auto found = LiveEvaluators().find(key_id);
  if (found == LiveEvaluators().end())
    throw std::runtime_error("no Evaluator with keys of key " + key_id.substr(0, 16) + " is alive");
  return *found->second;
}

// The other side of an operator.
using Operand = std::variant<const Ciphertext*, Complex, ComplexArray, RealArray>;

bool IsNumber(nb::handle x) {
  return PyFloat_Check(x.ptr()) || PyLong_Check(x.ptr()) || PyComplex_Check(x.ptr());
}

// Errors: Python's own, of an integer that no double holds.
Complex NumberOf(nb::handle x) {
  const Complex value(PyComplex_RealAsDouble(x.ptr()), PyComplex_ImagAsDouble(x.ptr()));
  if (PyErr_Occurred()) throw nb::python_error();
  return value;
}

// Of what is no array of these types yet: NumPy's business, as a copy.
Operand ConvertedOperand(nb::handle x) {
  const nb::object numpy = nb::module_::import_("numpy");
  const nb::object array = numpy.attr("ascontiguousarray")(x, "dtype"_a = numpy.attr("complex128"));
  const auto values = nb::cast<ComplexArray>(array);
  if (values.size() == 1) return *values.data();
  return values;
}

Operand OperandOf(nb::handle x) {
  if (nb::isinstance<Ciphertext>(x)) return nb::cast<const Ciphertext*>(x);
  if (IsNumber(x)) return NumberOf(x);
  if (ComplexArray values; nb::try_cast(x, values, false)) return values;
  if (RealArray values; nb::try_cast(x, values, false)) return values;
  return ConvertedOperand(x);
}

template <typename... Fns>
struct Overloaded : Fns... {
  using Fns::operator()...;
};

Result<Ciphertext> Add(const Evaluator& e, const Ciphertext& x, const Operand& y) {
  return std::visit(Overloaded{[&](const Ciphertext* other) { return e.Add(x, *other); },
                               [&](Complex value) { return e.AddConstant(x, value); },
                               [&](const auto& values) { return e.AddPlain(x, SpanOf(values)); }},
                    y);
}

Result<Ciphertext> Sub(const Evaluator& e, const Ciphertext& x, const Operand& y) {
  return std::visit(Overloaded{[&](const Ciphertext* other) { return e.Sub(x, *other); },
                               [&](Complex value) { return e.AddConstant(x, -value); },
                               [&](const auto& values) { return e.SubPlain(x, SpanOf(values)); }},
                    y);
}

Result<Ciphertext> SubFrom(const Evaluator& e, const Ciphertext& x, const Operand& y) {
  const auto negative = e.Negate(x);
  return negative.ok() ? Add(e, *negative, y) : negative;
}

Result<Ciphertext> MulBy(const Evaluator& e, const Ciphertext& x, Complex value) {
  if (value.imag() == 0) return e.MulConstant(x, value.real());
  return e.MulPlain(x, std::span<const Complex>(&value, 1));
}

Result<Ciphertext> Mul(const Evaluator& e, const Ciphertext& x, const Operand& y) {
  return std::visit(Overloaded{[&](const Ciphertext* other) {
                                 return &x == other ? e.Square(x) : e.Mul(x, *other);
                               },
                               [&](Complex value) { return MulBy(e, x, value); },
                               [&](const auto& values) { return e.MulPlain(x, SpanOf(values)); }},
                    y);
}

template <typename Fn>
auto Operator(Fn fn) {
  return [fn](const Ciphertext& self, nb::handle other) {
    const Evaluator evaluator = EvaluatorOf(self);
    const Operand operand = OperandOf(other);
    return Run([&] { return fn(evaluator, self, operand); });
  };
}

auto RotateOperator(int sign) {
  return [sign](const Ciphertext& self, int by) {
    const Evaluator evaluator = EvaluatorOf(self);
    return Run([&] { return evaluator.Rotate(self, sign * by); });
  };
}

auto UnaryOperator(Unary f) {
  return [f](const Ciphertext& self) {
    const Evaluator evaluator = EvaluatorOf(self);
    return Run([&] { return (evaluator.*f)(self); });
  };
}

template <typename T>
auto Plain(WithPlain<T> f) {
  return [f](const LiveEvaluator& self, const Ciphertext& a, const ArrayOf<T>& values) {
    return Run([&] { return (self.*f)(a, SpanOf(values)); });
  };
}

}  // namespace

void BindOperators(nb::class_<Ciphertext>& ciphertext) {
  const auto def = [&](const char* name, auto fn) {
    const std::string sig = std::string("def ") + name + "(self, other: Ciphertext | complex | " +
                            "numpy.typing.ArrayLike, /) -> Ciphertext";
    ciphertext.def(name, fn, nb::sig(sig.c_str()));
  };
  def("__add__", Operator(Add));
  def("__radd__", Operator(Add));
  def("__sub__", Operator(Sub));
  def("__rsub__", Operator(SubFrom));
  def("__mul__", Operator(Mul));
  def("__rmul__", Operator(Mul));
  ciphertext.def("__neg__", UnaryOperator(&Evaluator::Negate))
      .def("__lshift__", RotateOperator(1), "by"_a)
      .def("__rshift__", RotateOperator(-1), "by"_a)
      .def("bootstrap", UnaryOperator(&Evaluator::Bootstrap));
}

void BindEvaluator(nb::module_& m) {
  const auto binary = [](Binary f) {
    return [f](const LiveEvaluator& self, const Ciphertext& a, const Ciphertext& b) {
      return Run([&] { return (self.*f)(a, b); });
    };
  };
  const auto unary = [](Unary f) {
    return [f](const LiveEvaluator& self, const Ciphertext& a) {
      return Run([&] { return (self.*f)(a); });
    };
  };
  nb::class_<LiveEvaluator>(m, "Evaluator", nb::is_weak_referenceable(),
                            "Arithmetic on ciphertexts, without a secret.")
      .def(nb::init<const Context&, const EvaluationKeys*>(), "context"_a,
           "keys"_a.none() = nb::none())
      .def("add", binary(&Evaluator::Add), "a"_a, "b"_a)
      .def("sub", binary(&Evaluator::Sub), "a"_a, "b"_a)
      .def("mul", binary(&Evaluator::Mul), "a"_a, "b"_a)
      .def("negate", unary(&Evaluator::Negate), "a"_a)
      .def("square", unary(&Evaluator::Square), "a"_a)
      .def("conjugate", unary(&Evaluator::Conjugate), "a"_a)
      .def("bootstrap", unary(&Evaluator::Bootstrap), "a"_a)
      .def("add_plain", Plain<Complex>(&Evaluator::AddPlain), "a"_a, "values"_a)
      .def("add_plain", Plain<double>(&Evaluator::AddPlain), "a"_a, "values"_a)
      .def("sub_plain", Plain<Complex>(&Evaluator::SubPlain), "a"_a, "values"_a)
      .def("sub_plain", Plain<double>(&Evaluator::SubPlain), "a"_a, "values"_a)
      .def("mul_plain", Plain<Complex>(&Evaluator::MulPlain), "a"_a, "values"_a)
      .def("mul_plain", Plain<double>(&Evaluator::MulPlain), "a"_a, "values"_a)
      .def(
          "add_constant",
          [](const LiveEvaluator& self, const Ciphertext& a, Complex value) {
            return Run([&] { return self.AddConstant(a, value); });
          },
          "a"_a, "value"_a)
      .def(
          "mul_constant",
          [](const LiveEvaluator& self, const Ciphertext& a, double value) {
            return Run([&] { return self.MulConstant(a, value); });
          },
          "a"_a, "value"_a)
      .def(
          "rotate",
          [](const LiveEvaluator& self, const Ciphertext& a, int by) {
            return Run([&] { return self.Rotate(a, by); });
          },
          "a"_a, "by"_a)
      .def(
          "drop_to",
          [](const LiveEvaluator& self, const Ciphertext& a, int level) {
            return Run([&] { return self.DropTo(a, level); });
          },
          "a"_a, "level"_a)
      .def(
          "apply",
          [](const LiveEvaluator& self, const LinearTransform& transform, const Ciphertext& x) {
            return Run([&] { return self.Apply(transform, x); });
          },
          "transform"_a, "x"_a)
      .def(
          "evaluate",
          [](const LiveEvaluator& self, const Polynomial& polynomial, const Ciphertext& x) {
            return Run([&] { return self.Evaluate(polynomial, x); });
          },
          "polynomial"_a, "x"_a);
}

}  // namespace polyveil
