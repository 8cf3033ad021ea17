// The Python extension: NumPy arrays in and out, errors as exceptions, the GIL released while the
// library computes.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/complex.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <chrono>
#include <complex>
#include <exception>
#include <span>

#include "polyveil/ckks.h"
#include "polyveil/client.h"
#include "polyveil/model.h"
#include "polyveil/server.h"
#include "polyveil/version.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace polyveil {
namespace {

using Values = nb::ndarray<const Complex, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Matrix = nb::ndarray<const Complex, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

std::span<const Complex> SpanOf(const Values& values) { return {values.data(), values.size()}; }

// Seconds of this thread inside the library: what is left of a call's time is the binding's
// (bench/binding_overhead.py).
thread_local double library_seconds = 0;

// fn() without the GIL.
template <typename Fn>
auto Unlocked(Fn&& fn) {
  const nb::gil_scoped_release unlocked;
  const auto start = std::chrono::steady_clock::now();
  auto result = fn();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  library_seconds += taken.count();
  return result;
}

// Its value, or an exception.
template <typename Fn>
auto Run(Fn&& fn) {
  return Unlocked(fn).value();
}

// What the library calls on its way, or None. It may raise: the library hears "stop" then, and the
// caller gets what was raised; no exception passes through the library. Ctrl-C likewise.
class Callback {
 public:
  explicit Callback(std::optional<nb::callable> fn) : fn_(std::move(fn)) {}

  // Whether to go on: anything but False. Takes the GIL.
  template <typename... Args>
  bool operator()(const Args&... args) {
    const nb::gil_scoped_acquire locked;
    try {
      if (PyErr_CheckSignals() != 0) throw nb::python_error();
      return !fn_ || !(*fn_)(args...).is(nb::handle(Py_False));
    } catch (...) {
      raised_ = std::current_exception();
      return false;
    }
  }
  OnProgress AsProgress() {
    return [this](double done) { return (*this)(done); };
  }
  void Rethrow() const {
    if (raised_) std::rethrow_exception(raised_);
  }

 private:
  std::optional<nb::callable> fn_;
  std::exception_ptr raised_;
};

template <typename Fn>
auto Run(Callback& callback, Fn&& fn) {
  const auto result = Unlocked(fn);
  callback.Rethrow();
  return result.value();
}

nb::ndarray<nb::numpy, Complex> ToNumpy(const std::vector<Complex>& values) {
  auto* copy = new Complex[values.size()];
  std::ranges::copy(values, copy);
  const nb::capsule owner(copy, [](void* p) noexcept { delete[] static_cast<Complex*>(p); });
  return {copy, {values.size()}, owner};
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
             const std::optional<nb::callable>& progress) {
            const KeyNeeds needs =
                NeedsOf(std::move(rotations), conjugation, bootstrapping, std::move(transforms));
            Callback callback(progress);
            return Run(callback, [&] { return self.MakeKeys(needs, callback.AsProgress()); });
          },
          nb::kw_only(), "rotations"_a = std::vector<int>(), "conjugation"_a = false,
          "bootstrapping"_a = false, "transforms"_a = std::vector<LinearTransform>(),
          "progress"_a = nb::none(),
          "progress(done) gets 0 to 1; False cancels, and so does what it raises.")
      .def(
          "write_keys",
          [](const SecretKey& self, const std::string& path, std::vector<int> rotations,
             bool conjugation, bool bootstrapping, std::vector<LinearTransform> transforms,
             const std::optional<nb::callable>& progress) {
            const KeyNeeds needs =
                NeedsOf(std::move(rotations), conjugation, bootstrapping, std::move(transforms));
            Callback callback(progress);
            Run(callback, [&] { return self.WriteKeys(path, needs, callback.AsProgress()); });
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

void BindModel(nb::module_& m) {
  nb::class_<Plan>(m, "Plan", "What a token will cost on this machine.")
      .def_ro("parameters", &Plan::parameters)
      .def_ro("seconds_per_token", &Plan::seconds_per_token)
      .def_ro("components", &Plan::components)
      .def_ro("levels", &Plan::levels)
      .def_ro("bootstraps", &Plan::bootstraps)
      .def_ro("rotations", &Plan::rotations)
      .def_ro("key_bytes_sent", &Plan::key_bytes_sent)
      .def_ro("server_bytes", &Plan::server_bytes)
      .def_ro("token_bytes_up", &Plan::token_bytes_up)
      .def_ro("token_bytes_down", &Plan::token_bytes_down);
  nb::class_<Simulation>(m, "Simulation", "A simulated run beside the float64 model.")
      .def_ro("tokens", &Simulation::tokens)
      .def_ro("equal_tokens", &Simulation::equal_tokens)
      .def_ro("largest_logit_error", &Simulation::largest_logit_error);
  nb::class_<Model>(m, "Model", "A polynomial decoder in the clear, with its tokenizer.")
      .def_static(
          "load",
          [](const std::string& path, int context) {
            return Run([&] { return Model::Load(path, context); });
          },
          "path"_a, "context"_a = 0)
      .def_prop_ro("name", &Model::name)
      .def_prop_ro("context", &Model::context)
      .def_prop_ro("layers", &Model::layers)
      .def_prop_ro("width", &Model::width)
      .def(
          "plan",
          [](const Model& self, const std::string& parameters, bool prompts_at_once) {
            return Run([&] { return self.Plan({parameters, prompts_at_once}); });
          },
          nb::kw_only(), "parameters"_a = "", "prompts_at_once"_a = false)
      .def(
          "generate",
          [](const Model& self, const std::string& prompt, int tokens) {
            return Run([&] { return self.Generate(prompt, tokens); });
          },
          "prompt"_a, "tokens"_a = 16, "Greedy text of the float64 model: nothing is encrypted.")
      .def(
          "simulate",
          [](const Model& self, const std::string& prompt, int tokens,
             const std::string& parameters, bool prompts_at_once) {
            return Run([&] {
              return self.Simulate(prompt, tokens, {parameters, prompts_at_once});
            });
          },
          "prompt"_a, "tokens"_a = 16, nb::kw_only(), "parameters"_a = "",
          "prompts_at_once"_a = false);
}

void BindText(nb::module_& m) {
  nb::class_<Server>(m, "Server", "polyveil-server in this process.")
      .def(
          "__init__",
          [](Server* self, const std::string& model, const std::string& parameters,
             const std::string& address, int port, bool prompts_at_once, int context) {
            ServerOptions options;
            options.model = model;
            options.parameters = parameters;
            options.address = address;
            options.port = port;
            options.prompts_at_once = prompts_at_once;
            options.context = context;
            new (self) Server(Run([&] { return Server::Start(options); }));
          },
          "model"_a, nb::kw_only(), "parameters"_a = "", "address"_a = "127.0.0.1", "port"_a = 0,
          "prompts_at_once"_a = false, "context"_a = 0)
      .def_prop_ro("port", &Server::port)
      .def_prop_ro("url", &Server::url)
      .def("stop", &Server::Stop, nb::call_guard<nb::gil_scoped_release>());
  nb::class_<GeneratedText>(m, "GeneratedText")
      .def_ro("text", &GeneratedText::text)
      .def_ro("end", &GeneratedText::end)
      .def_ro("tokens", &GeneratedText::tokens)
      .def_ro("bytes_up", &GeneratedText::bytes_up)
      .def_ro("bytes_down", &GeneratedText::bytes_down);
  nb::class_<TextClient>(m, "_Client")
      .def(
          "__init__",
          [](TextClient* self, const std::string& server, const std::string& cache_folder,
             double max_key_gigabytes, double retry_seconds, bool allow_insecure) {
            ClientOptions options;
            options.server = server;
            options.cache_folder = cache_folder;
            options.max_key_gigabytes = max_key_gigabytes;
            options.retry_seconds = retry_seconds;
            options.allow_insecure = allow_insecure;
            new (self) TextClient(Run([&] { return TextClient::Connect(options); }));
          },
          "server"_a, nb::kw_only(), "cache_folder"_a = "", "max_key_gigabytes"_a = 8.0,
          "retry_seconds"_a = 30.0, "allow_insecure"_a = false)
      .def_prop_ro("model", &TextClient::model)
      .def_prop_ro("context", &TextClient::context)
      .def_prop_ro("seconds_per_token", &TextClient::seconds_per_token)
      .def_prop_ro("key_bytes", &TextClient::key_bytes)
      .def_prop_ro("security", &TextClient::security)
      .def(
          "send_keys",
          [](TextClient& self, const std::optional<nb::callable>& progress) {
            Callback callback(progress);
            Run(callback, [&] { return self.SendKeys(callback.AsProgress()); });
          },
          "progress"_a = nb::none())
      .def("_generate",
           [](TextClient& self, const std::string& prompt, const std::string& public_part,
              int tokens, double temperature, double top_p, int top_k, double repetition_penalty,
              std::uint64_t seed, const std::vector<std::string>& stops, bool fixed_length,
              const nb::callable& on_token) {
             const GenerateOptions options{
                 tokens, temperature, top_p, top_k, repetition_penalty, seed, stops, fixed_length};
             Callback callback(on_token);
             const OnToken heard = [&](const TokenEvent& token) {
               return callback(token.position, token.prompt, std::string(token.text), token.seconds,
                               token.server_seconds);
             };
             return Run(callback, [&]() -> Result<GeneratedText> {
               auto text = self.NewText(public_part);
               if (!text.ok()) return text.error();
               return text->Continue(prompt, options, heard);
             });
           });
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
  polyveil::BindModel(m);
  polyveil::BindText(m);
}
